// The stem of the network (`src.model.Stem`) as one operator for inference: image by image, so that what lies between
// image and branch 0, ten times as large, stays in a core's cache.
#include <algorithm>

#include "convolution.h"

namespace litehrnet {
namespace {

// 3x3 convolution of an image, stride 2, then ReLU.
void ConvolveBy2(const Convolution &c, const float *x, const Phases &layout, float *laid, float *y) {
  const int64_t width = layout.out.width, taps = 9 * c.ins;
  std::vector<Taps> inputs;
  for (int64_t i = 0; i < c.ins; ++i, laid += layout.floats()) {
    layout.Lay(x + i * layout.plane.pixels(), laid);
    inputs.push_back(layout.TapsOf(laid));
  }
  const Columns columns{1, layout.pixels()};
  DenseTiles([&](int64_t t, float *tile) {
    const int64_t first = t * kTile, end = std::min(first + kTile, columns.pixels);
    if (end < first + kTile) std::fill_n(tile, taps * kTile, 0.0f);
    for (int64_t p = first; p < end;) {
      const int64_t row = p / width, column = p % width, length = std::min(width - column, end - p);
      for (int64_t k = 0; k < taps; ++k) {
        std::copy_n(inputs[k / 9].at[k % 9] + row * layout.stride + column, length, tile + k * kTile + p - first);
      }
      p += length;
    }
  }, c.weight, y, columns, taps, c.outs, Activation(c.scale, c.shift, true));
}

// Takes images and the parameters of the convolutions: the first; depthwise and 1x1 of the short path; 1x1, depthwise
// and 1x1 of the long one. Gives branch 0.
void StemInference(Tensors t) {
  const Images in = t.Axes(0);
  const int64_t channels = t.Axis(1, 0), half = channels / 2;
  const Phases large(Plane{in.height, in.width});
  const Plane middle = large.out;
  const int64_t pixels = middle.Stepped(2).pixels();
  const float *x = t.TakeImages(in);
  const Convolution first = TakeDense(t, in.channels, channels, 3), filter = TakeDepthwise(t, half);
  const Convolution project = TakeDense(t, half, half), expand = TakeDense(t, half, channels);
  const Convolution wide_filter = TakeDepthwise(t, channels), narrow = TakeDense(t, channels, half);
  float *y = t.TakeImages({in.number, channels, (in.height + 3) / 4, (in.width + 3) / 4});
  t.End();
  EachImage(in.number, [&](int64_t n) {
    float *all = Scratch(5, in.channels * large.floats()), *before = Scratch(6, 2 * channels * middle.pixels());
    float *expanded = before + channels * middle.pixels(), *filtered = Scratch(7, 2 * channels * pixels);
    float *halves = filtered + channels * pixels;
    ConvolveBy2(first, x + n * in.channels * large.plane.pixels(), large, all, before);
    Depthwise<2>(filter, before, 1, middle, filtered);
    Pointwise(project, filtered, {1, pixels}, true, halves);
    Pointwise(expand, before + half * middle.pixels(), {1, middle.pixels()}, true, expanded);
    Depthwise<2>(wide_filter, expanded, 1, middle, filtered);
    Pointwise(narrow, filtered, {1, pixels}, true, halves + half * pixels);
    for (int64_t c = 0; c < channels; ++c) {  // shuffled
      std::copy_n(halves + c * pixels, pixels, y + (n * channels + c % half * 2 + c / half) * pixels);
    }
  });
}

}  // namespace
}  // namespace litehrnet

OPERATOR(StemInference, StemInference)
