// Convolutions with what follows them as scale and shift, in inference.
#pragma once
#include "dense.h"
#include "depthwise.h"
#include "operator.h"

namespace litehrnet {

struct Convolution {
  int64_t ins, outs;
  float *weight, *scale, *shift;
};

inline Convolution TakeDense(Tensors &t, int64_t ins, int64_t outs, int64_t kernel = 1) {
  return {ins, outs, t.Take({outs, ins, kernel, kernel}), t.Take({outs}), t.Take({outs})};
}

inline Convolution TakeDepthwise(Tensors &t, int64_t channels) {
  return {channels, channels, t.Take({channels, 1, 3, 3}), t.Take({channels}), t.Take({channels})};
}

// 1x1
inline void Pointwise(const Convolution &c, const float *x, Columns columns, bool relu, float *y) {
  Dense(x, c.weight, y, columns, c.ins, c.outs, Activation(c.scale, c.shift, relu));
}

// 3x3
template <int step>
void Depthwise(const Convolution &c, const float *x, int64_t images, const Plane &plane, float *y) {
  const Layout<step> layout(plane);
  const int64_t pixels = layout.pixels();
  Pool::Get().Run(images * c.ins, [&](int64_t i) {
    const int64_t channel = i % c.ins;
    const float scale = c.scale[channel], shift = c.shift[channel];
    float *to = y + i * pixels;
    float *laid = Scratch(0, layout.floats());
    layout.Lay(x + i * plane.pixels(), laid);
    layout.TapsOf(laid).Filter(c.weight + channel * 9, Scratch(1, layout.floats()), to);
    for (int64_t k = 0; k < pixels; ++k) to[k] = scale * to[k] + shift;
  });
}

}  // namespace litehrnet
