// Depthwise 3x3 convolution, padding 1, stride 1 or 2, float32 NCHW: forward, and both gradients in one pass.
//
// MindSpore's CPU convolution runs these through a general matrix product per channel. Here a plane is copied into a
// zero-bordered buffer that stays in the first-level cache; with a row stride of W + 2 every tap is then one contiguous
// loop over the whole plane, which compilers vectorise. Sums run over pictures in order: results do not depend on threads.
#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t kTail = 16;  // the loops over a plane read a little past its end

struct Plane {
  int64_t height, width, stride;
  explicit Plane(int64_t h, int64_t w) : height(h), width(w), stride(w + 2) {}
  int64_t size() const { return (height + 2) * stride + kTail; }
  int64_t out_size() const { return height * stride + kTail; }

  void Pad(const float *from, float *to) const {
    for (int64_t y = 0; y < height; ++y) std::copy_n(from + y * width, width, to + (y + 1) * stride + 1);
  }

  void Filter(const float *padded, const float *w, float *out) const {
    const float *a = padded, *b = padded + stride, *c = padded + 2 * stride;
    for (int64_t i = 0; i < height * stride; ++i) {
      out[i] = w[0] * a[i] + w[1] * a[i + 1] + w[2] * a[i + 2] + w[3] * b[i] + w[4] * b[i + 1] + w[5] * b[i + 2] +
               w[6] * c[i] + w[7] * c[i + 1] + w[8] * c[i + 2];
    }
  }
};

// Inputs: x (N, C, H, W), weight (C, 1, 3, 3). Output: y (N, C, H / s, W / s).
int Forward(void **params, int64_t **shapes) {
  const float *x = static_cast<float *>(params[0]), *weight = static_cast<float *>(params[1]);
  float *y = static_cast<float *>(params[2]);
  const int64_t batch = shapes[0][0], channels = shapes[0][1], rows = shapes[2][2], columns = shapes[2][3];
  const Plane plane(shapes[0][2], shapes[0][3]);
  const int64_t step = plane.height / rows;
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < channels; ++c) {
    std::vector<float> padded(plane.size()), out(plane.out_size());
    for (int64_t i = c; i < batch * channels; i += channels) {
      plane.Pad(x + i * plane.height * plane.width, padded.data());
      plane.Filter(padded.data(), weight + c * 9, out.data());
      for (int64_t r = 0; r < rows; ++r) {
        const float *from = out.data() + r * step * plane.stride;
        float *to = y + (i * rows + r) * columns;
        for (int64_t k = 0; k < columns; ++k) to[k] = from[k * step];
      }
    }
  }
  return 0;
}

// Inputs: dy (N, C, H / s, W / s), x, weight. Outputs: dx, dweight.
int Backward(void **params, int64_t **shapes) {
  const float *dy = static_cast<float *>(params[0]), *x = static_cast<float *>(params[1]);
  const float *weight = static_cast<float *>(params[2]);
  float *dx = static_cast<float *>(params[3]), *dweight = static_cast<float *>(params[4]);
  const int64_t batch = shapes[1][0], channels = shapes[1][1], rows = shapes[0][2], columns = shapes[0][3];
  const Plane plane(shapes[1][2], shapes[1][3]);
  const int64_t step = plane.height / rows;
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < channels; ++c) {
    std::vector<float> padded(plane.size()), spread(plane.size()), out(plane.out_size());
    float mirrored[9], sum[9] = {0};
    for (int k = 0; k < 9; ++k) mirrored[k] = weight[c * 9 + 8 - k];
    for (int64_t i = c; i < batch * channels; i += channels) {
      // dy at its places in the full-size plane; what lies between stays zero.
      for (int64_t r = 0; r < rows; ++r) {
        float *to = spread.data() + (r * step + 1) * plane.stride + 1;
        for (int64_t k = 0; k < columns; ++k) to[k * step] = dy[(i * rows + r) * columns + k];
      }
      plane.Filter(spread.data(), mirrored, out.data());
      for (int64_t r = 0; r < plane.height; ++r) {
        std::copy_n(out.data() + r * plane.stride, plane.width, dx + (i * plane.height + r) * plane.width);
      }
      plane.Pad(x + i * plane.height * plane.width, padded.data());
      const float *d = spread.data() + plane.stride + 1;
      const float *p = padded.data(), *q = p + plane.stride, *s = q + plane.stride;
      float t[9] = {0};
      for (int64_t k = 0; k < plane.height * plane.stride - 1; ++k) {
        t[0] += d[k] * p[k], t[1] += d[k] * p[k + 1], t[2] += d[k] * p[k + 2];
        t[3] += d[k] * q[k], t[4] += d[k] * q[k + 1], t[5] += d[k] * q[k + 2];
        t[6] += d[k] * s[k], t[7] += d[k] * s[k + 1], t[8] += d[k] * s[k + 2];
      }
      for (int k = 0; k < 9; ++k) sum[k] += t[k];
    }
    std::copy_n(sum, 9, dweight + c * 9);
  }
  return 0;
}

}  // namespace

// MindSpore knows an operator by its function's name alone, so each stride needs names of its own.
#define DEPTHWISE(name, function)                                                                           \
  extern "C" int name(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {         \
    return function(params, shapes);                                                                        \
  }
DEPTHWISE(DepthwiseForward1, Forward)
DEPTHWISE(DepthwiseForward2, Forward)
DEPTHWISE(DepthwiseBackward1, Backward)
DEPTHWISE(DepthwiseBackward2, Backward)
