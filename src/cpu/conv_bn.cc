// Convolution + BN (+ ReLU) as one operator: depthwise 3x3 (padding 1, stride 1 or 2) and 1x1; float32 NCHW.
//
// In training the batch's statistics are taken while a channel's values are still in the cache. Tensors of an operator
// are inputs first, then outputs, as listed above each function; (C) means shape.
#include "dense_norm.h"
#include "operator.h"
#include "plane.h"

namespace litehrnet {
namespace {

// x (N, C, H, W), weight (C, 1, 3, 3), gamma, beta, moving mean, moving variance (C), momentum (1)
// -> y (N, C, H / s, W / s), saved (2, C)
void DepthwiseTrain(Tensors t) {
  const Plane plane(t.shape(0, 2), t.shape(0, 3));
  const int64_t batch = t.shape(0, 0), channels = t.shape(0, 1), step = plane.height / t.shape(7, 2);
  const int64_t pixels = t.shape(7, 2) * t.shape(7, 3);
  const float *x = t[0], *weight = t[1];
  const Norm norm{t[2], t[3], t[4], t[5], t[6], t[8]};
  float *y = t[7];
  Pool::Get().Run(channels, [&](int64_t c, int) {
    float *padded = Scratch(0, plane.padded()), *wide = Scratch(1, plane.padded()), *z = Scratch(2, batch * pixels);
    plane.Clear(padded, 1);
    for (int64_t n = 0; n < batch; ++n) {
      plane.Pad(x + (n * channels + c) * plane.pixels(), padded);
      plane.Filter(padded, weight + c * 9, step, wide, z + n * pixels);
    }
    const Affine affine = norm.Train(c, channels, z, batch, pixels, pixels);
    for (int64_t n = 0; n < batch; ++n) {
      float *to = y + (n * channels + c) * pixels;
      for (int64_t k = 0; k < pixels; ++k) to[k] = affine.scale * z[n * pixels + k] + affine.shift;
    }
  });
}

// dy, x, weight, gamma, beta (without effect), saved -> dx, dweight, dgamma, dbeta
void DepthwiseGradient(Tensors t) {
  const Plane plane(t.shape(1, 2), t.shape(1, 3));
  const int64_t batch = t.shape(1, 0), channels = t.shape(1, 1), step = plane.height / t.shape(0, 2);
  const int64_t pixels = t.shape(0, 2) * t.shape(0, 3);
  const float *dy = t[0], *x = t[1], *weight = t[2], *gamma = t[3], *saved = t[5];
  float *dx = t[6], *dweight = t[7], *dgamma = t[8], *dbeta = t[9];
  Pool::Get().Run(channels, [&](int64_t c, int) {
    float *padded = Scratch(0, batch * plane.padded()), *wide = Scratch(1, plane.padded());
    float *z = Scratch(2, batch * pixels), *spread = Scratch(3, plane.padded());
    plane.Clear(padded, batch), plane.Clear(spread, 1);
    float mirrored[9], sum[9] = {0};
    for (int k = 0; k < 9; ++k) mirrored[k] = weight[c * 9 + 8 - k];
    const float mean = saved[c];
    double sum_dy = 0, sum_dy_centred = 0;
    for (int64_t n = 0; n < batch; ++n) {
      plane.Pad(x + (n * channels + c) * plane.pixels(), padded + n * plane.padded());
      plane.Filter(padded + n * plane.padded(), weight + c * 9, step, wide, z + n * pixels);
      const float *d = dy + (n * channels + c) * pixels, *v = z + n * pixels;
      float s = 0, sz = 0;
      for (int64_t k = 0; k < pixels; ++k) s += d[k], sz += d[k] * (v[k] - mean);
      sum_dy += s, sum_dy_centred += sz;
    }
    const NormGradient g(gamma[c], mean, saved[channels + c], sum_dy, sum_dy_centred,
                         static_cast<double>(batch * pixels), dgamma + c, dbeta + c);
    for (int64_t n = 0; n < batch; ++n) {
      const float *d = dy + (n * channels + c) * pixels;
      float *dz = z + n * pixels;
      for (int64_t k = 0; k < pixels; ++k) dz[k] = g.a * d[k] + g.b * dz[k] + g.c;
      plane.Spread(dz, step, spread);
      plane.FilterGradient(padded + n * plane.padded(), spread, sum);
      plane.Filter(spread, mirrored, 1, wide, dx + (n * channels + c) * plane.pixels());
    }
    std::copy_n(sum, 9, dweight + c * 9);
  });
}

// x, weight, scale, shift (C) -> y
void DepthwiseInference(Tensors t) {
  const Plane plane(t.shape(0, 2), t.shape(0, 3));
  const int64_t channels = t.shape(0, 1), step = plane.height / t.shape(4, 2), pixels = t.shape(4, 2) * t.shape(4, 3);
  const float *x = t[0], *weight = t[1], *scale = t[2], *shift = t[3];
  float *y = t[4];
  Pool::Get().Run(t.shape(0, 0) * channels, [&](int64_t i, int) {
    float *padded = Scratch(0, plane.padded()), *wide = Scratch(1, plane.padded()), *to = y + i * pixels;
    const int64_t c = i % channels;
    plane.Clear(padded, 1);
    plane.Pad(x + i * plane.pixels(), padded);
    plane.Filter(padded, weight + c * 9, step, wide, to);
    for (int64_t k = 0; k < pixels; ++k) to[k] = scale[c] * to[k] + shift[c];
  });
}

// x (N, I, H, W), weight (O, I, 1, 1), gamma, beta, moving mean, moving variance (O), momentum (1)
// -> y, z (N, O, H, W), saved (2, O); z is what goes into BN
template <bool relu>
void PointwiseTrain(Tensors t) {
  const Columns columns{t.shape(0, 0), t.shape(0, 2) * t.shape(0, 3)};
  const int64_t ins = t.shape(0, 1), outs = t.shape(1, 0);
  float *y = t[7], *z = t[8];
  Dense(t[0], t[1], z, columns, ins, outs, [](int64_t, float v) { return v; });
  TrainNorm<relu>({t[2], t[3], t[4], t[5], t[6], t[9]}, columns, outs, z, y);
}

// dy, x, weight, gamma, beta, z, saved -> dx, dweight, dgamma, dbeta
template <bool relu>
void PointwiseGradient(Tensors t) {
  const Columns columns{t.shape(1, 0), t.shape(1, 2) * t.shape(1, 3)};
  const int64_t ins = t.shape(1, 1), outs = t.shape(2, 0);
  const ActivatedNormGradient<relu> gradient(columns, outs, t[0], t[3], t[4], t[5], t[6], t[9], t[10]);
  DenseGradient(t[1], t[2], t[7], t[8], columns, ins, outs,
                [&](int64_t i, float *tile) { gradient.Pack(i, tile); });
}

// x, weight, scale, shift (O) -> y
template <bool relu>
void PointwiseInference(Tensors t) {
  const float *scale = t[2], *shift = t[3];
  Dense(t[0], t[1], t[4], Columns{t.shape(0, 0), t.shape(0, 2) * t.shape(0, 3)}, t.shape(0, 1), t.shape(1, 0),
        [=](int64_t c, float v) {
          v = scale[c] * v + shift[c];
          return relu && v < 0 ? 0 : v;
        });
}

// z (N, C, H, W), gamma, beta, moving mean, moving variance (C), momentum (1) -> y, saved (2, C)
template <bool relu>
void NormTrain(Tensors t) {
  TrainNorm<relu>({t[1], t[2], t[3], t[4], t[5], t[7]}, {t.shape(0, 0), t.shape(0, 2) * t.shape(0, 3)}, t.shape(0, 1),
                  t[0], t[6]);
}

// dy, z, gamma, beta, saved -> dz, dgamma, dbeta
template <bool relu>
void NormGradientOfTrain(Tensors t) {
  const Columns columns{t.shape(0, 0), t.shape(0, 2) * t.shape(0, 3)};
  ActivatedNormGradient<relu>(columns, t.shape(0, 1), t[0], t[2], t[3], t[1], t[4], t[6], t[7]).Write(t[5]);
}

// high (N, C, H, W), low (N, C, H / 2, W / 2) -> high + low enlarged
void AddEnlargedBy2(Tensors t) {
  const int64_t height = t.shape(0, 2), width = t.shape(0, 3), size = height * width;
  Pool::Get().Run(t.shape(0, 0) * t.shape(0, 1), [&](int64_t i, int) {
    AddEnlarged(t[0] + i * size, t[1] + i * size / 4, height, width, 2, 1, Scratch(0, width), t[2] + i * size);
  });
}

// d (N, C, H, W) -> sums of its squares of 2 x 2
void SumSquaresOf2(Tensors t) {
  const int64_t height = t.shape(0, 2), width = t.shape(0, 3), size = height * width;
  Pool::Get().Run(t.shape(0, 0) * t.shape(0, 1), [&](int64_t i, int) {
    SumSquares(t[0] + i * size, height, width, 2, Scratch(0, width), t[1] + i * size / 4);
  });
}

}  // namespace
}  // namespace litehrnet

// One name per kind of result: MindSpore knows an operator by its function's name alone.
OPERATOR(DepthwiseTrain1, DepthwiseTrain)
OPERATOR(DepthwiseTrain2, DepthwiseTrain)
OPERATOR(DepthwiseGradient1, DepthwiseGradient)
OPERATOR(DepthwiseGradient2, DepthwiseGradient)
OPERATOR(DepthwiseInference1, DepthwiseInference)
OPERATOR(DepthwiseInference2, DepthwiseInference)
OPERATOR(PointwiseTrain, PointwiseTrain<false>)
OPERATOR(PointwiseTrainRelu, PointwiseTrain<true>)
OPERATOR(PointwiseGradient, PointwiseGradient<false>)
OPERATOR(PointwiseGradientRelu, PointwiseGradient<true>)
OPERATOR(PointwiseInference, PointwiseInference<false>)
OPERATOR(PointwiseInferenceRelu, PointwiseInference<true>)
OPERATOR(NormTrain, NormTrain<false>)
OPERATOR(NormTrainRelu, NormTrain<true>)
OPERATOR(NormGradient, NormGradientOfTrain<false>)
OPERATOR(NormGradientRelu, NormGradientOfTrain<true>)
OPERATOR(AddEnlarged, AddEnlargedBy2)
OPERATOR(SumSquares, SumSquaresOf2)

// 0: as many as the process may run on.
extern "C" void LiteHRNetThreads(int threads) {
  litehrnet::Pool::Get().Resize(threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()));
}
