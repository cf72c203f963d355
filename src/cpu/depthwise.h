// Depthwise 3x3 convolution + BN of one channel over a batch, and its gradient; what goes in is for the caller to lay out.
#pragma once
#include "layout.h"
#include "norm.h"
#include "parallel.h"

namespace litehrnet {

// z = the channel's convolution, planes packed; laid(n) gives image n's plane as it was laid out.
template <typename Layout, typename Laid>
void FilterChannel(const Layout &layout, int64_t batch, const float *filter, const Laid &laid, float *z) {
  float *wide = Scratch(1, layout.floats());
  for (int64_t n = 0; n < batch; ++n) {
    layout.TapsOf(laid(n)).Filter(filter, wide, z + n * layout.pixels());
  }
}

// y (N, channels, P) = BN of channel c's convolution, by the statistics of the batch.
template <typename Layout, typename Laid>
void TrainFilter(const Layout &layout, int64_t batch, int64_t channels, int64_t c, const float *weight, const Norm &norm,
                 const Laid &laid, float *y) {
  const int64_t pixels = layout.pixels();
  float *z = Scratch(2, batch * pixels);
  FilterChannel(layout, batch, weight + c * 9, laid, z);
  const Affine affine = norm.Train(c, channels, z, batch, pixels, pixels);
  for (int64_t n = 0; n < batch; ++n) {
    float *to = y + (n * channels + c) * pixels;
    for (int64_t k = 0; k < pixels; ++k) to[k] = affine.scale * z[n * pixels + k] + affine.shift;
  }
}

// The planes of one channel, laid out one after the other by lay(n, buffer).
template <typename Layout>
class LaidChannel {
 public:
  template <typename Lay>
  LaidChannel(const Layout &layout, int64_t batch, const Lay &lay)
      : layout_(layout), laid_(Scratch(0, batch * layout.floats())) {
    for (int64_t n = 0; n < batch; ++n) lay(n, laid_ + n * layout.floats());
  }

  const Layout &layout() const { return layout_; }
  const float *operator()(int64_t n) const { return laid_ + n * layout_.floats(); }

 private:
  Layout layout_;
  float *laid_;
};

// One channel's parameters, what the forward pass saved of its statistics, and where the gradients go.
struct ChannelGradient {
  const float *filter;
  float gamma, mean, inverse;
  float *dfilter, *dgamma, *dbeta;

  // dy(n) is the output's gradient as (values, affine map of them); dx(n) the plane that takes that of what was laid out;
  // after(n) is called when it has.
  template <typename Layout, typename Gradient, typename Target, typename After>
  void Run(const LaidChannel<Layout> &laid, int64_t batch, const Gradient &dy, const Target &dx,
           const After &after) const {
    const Layout &layout = laid.layout();
    const int64_t pixels = layout.pixels();
    float *wide = Scratch(1, layout.floats()), *z = Scratch(2, batch * pixels), *buffer = Scratch(3, layout.floats());
    double sum_dy = 0, sum_dy_centred = 0;
    for (int64_t n = 0; n < batch; ++n) {
      const auto [values, map] = dy(n);
      float *v = z + n * pixels, s = 0, sz = 0;
      layout.TapsOf(laid(n)).Filter(filter, wide, v);
      for (int64_t k = 0; k < pixels; ++k) {
        const float d = map.scale * values[k] + map.shift;
        s += d, sz += d * (v[k] - mean);
      }
      sum_dy += s, sum_dy_centred += sz;
    }
    const NormGradient g(gamma, mean, inverse, sum_dy, sum_dy_centred, static_cast<double>(batch * pixels), dgamma,
                         dbeta);
    float sum[9] = {0};
    for (int64_t n = 0; n < batch; ++n) {
      const auto [values, map] = dy(n);
      float *dz = z + n * pixels;
      for (int64_t k = 0; k < pixels; ++k) dz[k] = g.a * (map.scale * values[k] + map.shift) + g.b * dz[k] + g.c;
      const float *gradient = layout.LayGradient(dz, buffer);
      layout.TapsOf(laid(n)).FilterGradient(gradient, sum);
      layout.InputGradient(gradient, filter, wide, dx(n));
      after(n);
    }
    std::copy_n(sum, 9, dfilter);
  }
};

}  // namespace litehrnet
