// Convolutions of one image in inference, and what follows them as scale and shift.
#pragma once
#include "dense.h"
#include "depthwise.h"
#include "operator.h"

namespace litehrnet {

struct Convolution {
  int64_t ins, outs;
  const float *weight, *scale, *shift;
};

inline Convolution TakeDense(Tensors &t, int64_t ins, int64_t outs, int64_t kernel = 1) {
  return {ins, outs, t.Take({outs, ins, kernel, kernel}), t.Take({outs}), t.Take({outs})};
}

inline Convolution TakeDepthwise(Tensors &t, int64_t channels) {
  return {channels, channels, t.Take({channels, 1, 3, 3}), t.Take({channels}), t.Take({channels})};
}

inline void Pointwise(const Convolution &c, const float *x, int64_t pixels, bool relu, float *y) {
  Dense(x, c.weight, y, {1, pixels}, c.ins, c.outs, Activation(c.scale, c.shift, relu));
}

// 3x3, stride 2
inline void DepthwiseBy2(const Convolution &c, const float *x, const Plane &plane, float *y) {
  FilterImages<2>(x, c.weight, c.scale, c.shift, 1, c.ins, plane, y);
}

}  // namespace litehrnet
