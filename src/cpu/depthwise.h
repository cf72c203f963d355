// Depthwise 3x3 convolution + BN of one channel over a batch, and its gradient; what goes in is for the caller to pad.
#pragma once
#include "norm.h"
#include "parallel.h"
#include "plane.h"

namespace litehrnet {

// z = the channel's convolution, planes packed; pad(n, buffer) pads image n's plane.
template <int step, typename Pad>
void FilterChannel(const Plane &plane, int64_t batch, const float *filter, const Pad &pad, float *z) {
  float *padded = Scratch(0, plane.padded()), *wide = Scratch(1, plane.padded());
  const int64_t pixels = plane.Pixels(step);
  plane.Clear(padded, 1);
  for (int64_t n = 0; n < batch; ++n) {
    pad(n, padded);
    plane.Filter(padded, filter, step, wide, z + n * pixels);
  }
}

// y (N, channels, P) = BN of channel c's convolution, by the statistics of the batch.
template <int step, typename Pad>
void TrainFilter(const Plane &plane, int64_t batch, int64_t channels, int64_t c, const float *weight, const Norm &norm,
                 const Pad &pad, float *y) {
  const int64_t pixels = plane.Pixels(step);
  float *z = Scratch(2, batch * pixels);
  FilterChannel<step>(plane, batch, weight + c * 9, pad, z);
  const Affine affine = norm.Train(c, channels, z, batch, pixels, pixels);
  for (int64_t n = 0; n < batch; ++n) {
    float *to = y + (n * channels + c) * pixels;
    for (int64_t k = 0; k < pixels; ++k) to[k] = affine.scale * z[n * pixels + k] + affine.shift;
  }
}

// One channel's parameters, what the forward pass saved of its statistics, and where the gradients go.
struct ChannelGradient {
  const float *filter;
  float gamma, mean, inverse;
  float *dfilter, *dgamma, *dbeta;

  // dy(n) is the output's gradient as (values, affine map of them); dx(n) the plane that takes that of what
  // pad(n, buffer) padded; after(n) is called when it has.
  template <int step, typename Pad, typename Gradient, typename Target, typename After>
  void Run(const Plane &plane, int64_t batch, const Pad &pad, const Gradient &dy, const Target &dx,
           const After &after) const {
    const int64_t pixels = plane.Pixels(step);
    float *padded = Scratch(0, batch * plane.padded()), *wide = Scratch(1, plane.padded());
    float *z = Scratch(2, batch * pixels), *dilated = Scratch(3, plane.padded());
    plane.Clear(padded, batch), plane.Clear(dilated, 1);
    double sum_dy = 0, sum_dy_centred = 0;
    for (int64_t n = 0; n < batch; ++n) {
      const auto [values, map] = dy(n);
      float *v = z + n * pixels, s = 0, sz = 0;
      pad(n, padded + n * plane.padded());
      plane.Filter(padded + n * plane.padded(), filter, step, wide, v);
      for (int64_t k = 0; k < pixels; ++k) {
        const float d = map.scale * values[k] + map.shift;
        s += d, sz += d * (v[k] - mean);
      }
      sum_dy += s, sum_dy_centred += sz;
    }
    const NormGradient g(gamma, mean, inverse, sum_dy, sum_dy_centred, static_cast<double>(batch * pixels), dgamma,
                         dbeta);
    float mirrored[9], sum[9] = {0};
    for (int k = 0; k < 9; ++k) mirrored[k] = filter[8 - k];
    for (int64_t n = 0; n < batch; ++n) {
      const auto [values, map] = dy(n);
      float *dz = z + n * pixels;
      for (int64_t k = 0; k < pixels; ++k) dz[k] = g.a * (map.scale * values[k] + map.shift) + g.b * dz[k] + g.c;
      plane.Dilate(dz, step, dilated);
      plane.FilterGradient(padded + n * plane.padded(), dilated, sum);
      plane.Filter(dilated, mirrored, 1, wide, dx(n));
      after(n);
    }
    std::copy_n(sum, 9, dfilter);
  }
};

}  // namespace litehrnet
