// Convolution + BN (+ ReLU) as one operator: depthwise 3x3 (padding 1, stride 1 or 2) and 1x1; float32 NCHW.
//
// In training the batch's statistics are taken while a channel's values are still in the cache. An operator's tensors
// are inputs first, then outputs, in the order in which it takes them. A gradient takes what the training operator of
// that name took but for BN's running statistics, what that gave besides its result, and the result's gradient.
#include <utility>

#include "convolution.h"
#include "dense_norm.h"

namespace litehrnet {
namespace {

Norm TakeNorm(Tensors &t, int64_t channels) {
  Norm norm;
  norm.gamma = t.Take({channels}), norm.beta = t.Take({channels});
  norm.moving_mean = t.Take({channels}), norm.moving_variance = t.Take({channels}), norm.momentum = t.Take({1});
  return norm;
}

// Images after a convolution.
template <int step>
Images Convolved(const Images &x, int64_t channels) {
  return {x.number, channels, (x.height + step - 1) / step, (x.width + step - 1) / step};
}

template <int step>
void DepthwiseTrain(Tensors t) {
  const Images in = t.Axes(0);
  const Plane plane{in.height, in.width};
  const Layout<step> layout(plane);
  const int64_t channels = in.channels;
  const float *x = t.TakeImages(in), *weight = t.Take({channels, 1, 3, 3});
  Norm norm = TakeNorm(t, channels);
  float *y = t.TakeImages(Convolved<step>(in, channels));
  norm.saved = t.Take({2, channels});
  t.End();
  Pool::Get().Run(channels, [&](int64_t c) {
    float *laid = Scratch(0, layout.floats());
    TrainFilter(layout, in.number, channels, c, weight, norm, [&](int64_t n) {
      layout.Lay(x + (n * channels + c) * plane.pixels(), laid);
      return laid;
    }, y);
  });
}

template <int step>
void DepthwiseGradient(Tensors t) {
  const Images in = t.Axes(0);
  const Plane plane{in.height, in.width};
  const Layout<step> layout(plane);
  const int64_t channels = in.channels, pixels = layout.pixels();
  const float *x = t.TakeImages(in), *weight = t.Take({channels, 1, 3, 3}), *gamma = t.Take({channels});
  t.Take({channels});  // beta has no say in it
  const float *saved = t.Take({2, channels}), *dy = t.TakeImages(Convolved<step>(in, channels));
  float *dx = t.TakeImages(in), *dweight = t.Take({channels, 1, 3, 3});
  float *dgamma = t.Take({channels}), *dbeta = t.Take({channels});
  t.End();
  Pool::Get().Run(channels, [&](int64_t c) {
    const ChannelGradient channel{weight + c * 9, gamma[c], saved[c], saved[channels + c], dweight + c * 9, dgamma + c,
                                  dbeta + c};
    const LaidChannel<Layout<step>> laid(layout, in.number, [&](int64_t n, float *to) {
      layout.Lay(x + (n * channels + c) * plane.pixels(), to);
    });
    channel.Run(
        laid, in.number,
        [&](int64_t n) { return std::make_pair(dy + (n * channels + c) * pixels, Affine{1, 0}); },
        [&](int64_t n) { return dx + (n * channels + c) * plane.pixels(); }, [](int64_t) {});
  });
}

template <int step>
void DepthwiseInference(Tensors t) {
  const Images in = t.Axes(0);
  const float *x = t.TakeImages(in);
  const Convolution c = TakeDepthwise(t, in.channels);
  float *y = t.TakeImages(Convolved<step>(in, in.channels));
  t.End();
  Depthwise<step>(c, x, in.number, Plane{in.height, in.width}, y);
}

// Gives y, z (what goes into BN) and the statistics.
template <bool relu>
void PointwiseTrain(Tensors t) {
  const Images in = t.Axes(0);
  const int64_t outs = t.Axis(1, 0);
  const Columns columns{in.number, in.height * in.width};
  const float *x = t.TakeImages(in), *weight = t.Take({outs, in.channels, 1, 1});
  Norm norm = TakeNorm(t, outs);
  float *y = t.TakeImages(Convolved<1>(in, outs)), *z = t.TakeImages(Convolved<1>(in, outs));
  norm.saved = t.Take({2, outs});
  t.End();
  Dense(x, weight, z, columns, in.channels, outs, [](int64_t, float v) { return v; });
  TrainNorm<relu>(norm, columns, outs, z, y);
}

template <bool relu>
void PointwiseGradient(Tensors t) {
  const Images in = t.Axes(0);
  const int64_t ins = in.channels, outs = t.Axis(1, 0);
  const Columns columns{in.number, in.height * in.width};
  const float *x = t.TakeImages(in), *weight = t.Take({outs, ins, 1, 1}), *gamma = t.Take({outs});
  const float *beta = t.Take({outs}), *z = t.TakeImages(Convolved<1>(in, outs)), *saved = t.Take({2, outs});
  const float *dy = t.TakeImages(Convolved<1>(in, outs));
  float *dx = t.TakeImages(in), *dweight = t.Take({outs, ins, 1, 1}), *dgamma = t.Take({outs}), *dbeta = t.Take({outs});
  t.End();
  const ActivatedNormGradient<relu> gradient(columns, outs, dy, gamma, beta, z, saved, dgamma, dbeta);
  DenseGradient(x, weight, dx, dweight, columns, ins, outs, [&](int64_t i, float *tile) { gradient.Pack(i, tile); });
}

template <bool relu>
void PointwiseInference(Tensors t) {
  const Images in = t.Axes(0);
  const int64_t outs = t.Axis(1, 0);
  const float *x = t.TakeImages(in);
  const Convolution c = TakeDense(t, in.channels, outs);
  float *y = t.TakeImages(Convolved<1>(in, outs));
  t.End();
  Pointwise(c, x, {in.number, in.height * in.width}, relu, y);
}

// BN (+ ReLU) alone, after a convolution of MindSpore's.
template <bool relu>
void NormTrain(Tensors t) {
  const Images in = t.Axes(0);
  const float *z = t.TakeImages(in);
  Norm norm = TakeNorm(t, in.channels);
  float *y = t.TakeImages(in);
  norm.saved = t.Take({2, in.channels});
  t.End();
  TrainNorm<relu>(norm, {in.number, in.height * in.width}, in.channels, z, y);
}

template <bool relu>
void GradientOfNorm(Tensors t) {
  const Images in = t.Axes(0);
  const int64_t channels = in.channels;
  const float *z = t.TakeImages(in), *gamma = t.Take({channels}), *beta = t.Take({channels});
  const float *saved = t.Take({2, channels}), *dy = t.TakeImages(in);
  float *dz = t.TakeImages(in), *dgamma = t.Take({channels}), *dbeta = t.Take({channels});
  t.End();
  const Columns columns{in.number, in.height * in.width};
  ActivatedNormGradient<relu>(columns, channels, dy, gamma, beta, z, saved, dgamma, dbeta).Write(dz);
}

}  // namespace
}  // namespace litehrnet

// One name per kind of result: MindSpore knows an operator by its function's name alone.
OPERATOR(Depthwise1Train, DepthwiseTrain<1>)
OPERATOR(Depthwise2Train, DepthwiseTrain<2>)
OPERATOR(Depthwise1Gradient, DepthwiseGradient<1>)
OPERATOR(Depthwise2Gradient, DepthwiseGradient<2>)
OPERATOR(Depthwise1Inference, DepthwiseInference<1>)
OPERATOR(Depthwise2Inference, DepthwiseInference<2>)
OPERATOR(PointwiseTrain, PointwiseTrain<false>)
OPERATOR(PointwiseReluTrain, PointwiseTrain<true>)
OPERATOR(PointwiseGradient, PointwiseGradient<false>)
OPERATOR(PointwiseReluGradient, PointwiseGradient<true>)
OPERATOR(PointwiseInference, PointwiseInference<false>)
OPERATOR(PointwiseReluInference, PointwiseInference<true>)
OPERATOR(NormTrain, NormTrain<false>)
OPERATOR(NormReluTrain, NormTrain<true>)
OPERATOR(NormGradient, GradientOfNorm<false>)
OPERATOR(NormReluGradient, GradientOfNorm<true>)

// 0: as many as the process may run on.
extern "C" void LiteHRNetThreads(int threads) {
  litehrnet::Pool::Get().Resize(threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()));
}
