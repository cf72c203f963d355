// 1x1 convolutions as matrix products on tiles of columns; a column is a pixel of an image, images side by side.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "parallel.h"

namespace litehrnet {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 4;
#else
constexpr int kLanes = 8, kVectors = 2;
#endif
constexpr int kRows = 6, kTile = kLanes * kVectors;
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));

// out (R, kTile) (+)= w (R, depth) x (depth, kTile); w[r, k] stands at w[r * row_step + k * depth_step].
template <int R>
inline void Multiply(const float *w, int64_t row_step, int64_t depth_step, int64_t depth, const float *x, float *out,
                     bool accumulate) {
  Vector sum[R][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = accumulate ? *reinterpret_cast<Vector *>(out + r * kTile + v * kLanes) : Vector{};
    }
  }
  for (int64_t k = 0; k < depth; ++k, x += kTile, w += depth_step) {
    Vector column[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) column[v] = *reinterpret_cast<const Vector *>(x + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float factor = w[r * row_step];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * column[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Vector *>(out + r * kTile + v * kLanes) = sum[r][v];
  }
}

// As above for any number of rows.
inline void MultiplyTile(const float *w, int64_t row_step, int64_t depth_step, int64_t rows, int64_t depth,
                         const float *x, float *out, bool accumulate = false) {
  for (; rows >= kRows; rows -= kRows, w += kRows * row_step, out += kRows * kTile) {
    Multiply<kRows>(w, row_step, depth_step, depth, x, out, accumulate);
  }
  if (rows >= 4) {
    Multiply<4>(w, row_step, depth_step, depth, x, out, accumulate);
    rows -= 4, w += 4 * row_step, out += 4 * kTile;
  }
  for (; rows > 0; --rows, w += row_step, out += kTile) Multiply<1>(w, row_step, depth_step, depth, x, out, accumulate);
}

// Where the columns of tensors (images, channels, pixels) stand.
struct Columns {
  int64_t images, pixels;

  int64_t tiles() const { return (images * pixels + kTile - 1) / kTile; }

  // visit(image, pixel, column in the tile, length) for the runs of columns that tile t is made of.
  template <typename F>
  void Runs(int64_t t, const F &visit) const {
    const int64_t begin = t * kTile, end = std::min(begin + kTile, images * pixels);
    for (int64_t i = begin; i < end;) {
      const int64_t length = std::min(pixels - i % pixels, end - i);
      visit(i / pixels, i % pixels, i - begin, length);
      i += length;
    }
  }

  // tile (channels, kTile) from x; columns past the end are zeros.
  void Pack(const float *x, int64_t channels, int64_t t, float *tile) const {
    if ((t + 1) * kTile > images * pixels) std::fill_n(tile, channels * kTile, 0.0f);
    Runs(t, [=](int64_t n, int64_t p, int64_t column, int64_t length) {
      for (int64_t c = 0; c < channels; ++c) {
        std::memcpy(tile + c * kTile + column, x + (n * channels + c) * pixels + p, length * sizeof(float));
      }
    });
  }

  // y (+)= value(channel, tile's value)
  template <bool add = false, typename F>
  void Unpack(const float *tile, int64_t channels, int64_t t, float *y, const F &value) const {
    Runs(t, [=](int64_t n, int64_t p, int64_t column, int64_t length) {
      for (int64_t c = 0; c < channels; ++c) {
        const float *from = tile + c * kTile + column;
        float *to = y + (n * channels + c) * pixels + p;
        for (int64_t k = 0; k < length; ++k) to[k] = add ? to[k] + value(c, from[k]) : value(c, from[k]);
      }
    });
  }
};

// y (N, outs, P) = value(channel, w (outs, ins) x (N, ins, P)); pack(t, tile) gives tile t of the last factor.
template <typename Pack, typename F>
void DenseTiles(const Pack &pack, const float *w, float *y, Columns columns, int64_t ins, int64_t outs, const F &value) {
  Pool::Get().Run(columns.tiles(), [&](int64_t t) {
    float *in = Scratch(0, ins * kTile), *out = Scratch(1, outs * kTile);
    pack(t, in);
    MultiplyTile(w, ins, 1, outs, ins, in, out);
    columns.Unpack(out, outs, t, y, value);
  });
}

template <typename F>
void Dense(const float *x, const float *w, float *y, Columns columns, int64_t ins, int64_t outs, const F &value) {
  DenseTiles([&](int64_t t, float *tile) { columns.Pack(x, ins, t, tile); }, w, y, columns, ins, outs, value);
}

// Of a convolution in inference: y = activation(scale * v + shift), by channel.
struct Activation {
  const float *scale, *shift;
  float least;

  Activation(const float *scale_, const float *shift_, bool relu)
      : scale(scale_), shift(shift_), least(relu ? 0 : -std::numeric_limits<float>::infinity()) {}

  float operator()(int64_t c, float v) const {
    v = scale[c] * v + shift[c];
    return v < least ? least : v;
  }
};

// dx (N, ins, P), perhaps added to what is there, and dw (outs, ins) from x and a gradient whose tile (outs, kTile)
// gradient(t, tile) writes, zeros past the end. Shares of dw are summed in the order of a fixed division of the tiles: the
// result does not depend on threads.
template <bool add = false, typename F>
void DenseGradient(const float *x, const float *w, float *dx, float *dw, Columns columns, int64_t ins, int64_t outs,
                   const F &gradient) {
  const int64_t tiles = columns.tiles(), shares = std::min<int64_t>(tiles, 8);
  const int64_t wide = (ins + kTile - 1) / kTile, share = wide * outs * kTile;
  float *sums = Scratch(2, shares * share);
  Pool::Get().Run(shares, [&](int64_t s) {
    float *dz = Scratch(0, outs * kTile), *dx_tile = Scratch(1, ins * kTile);
    float *transposed = Scratch(3, wide * kTile * kTile);
    std::fill_n(transposed, wide * kTile * kTile, 0.0f);
    const int64_t first = tiles * s / shares;
    for (int64_t t = first; t < tiles * (s + 1) / shares; ++t) {
      gradient(t, dz);
      MultiplyTile(w, 1, ins, ins, outs, dz, dx_tile);
      columns.Unpack<add>(dx_tile, ins, t, dx, [](int64_t, float v) { return v; });
      columns.Pack(x, ins, t, dx_tile);
      for (int64_t i = 0; i < ins; ++i) {
        float *to = transposed + i / kTile * kTile * kTile + i % kTile;
        for (int64_t k = 0; k < kTile; ++k) to[k * kTile] = dx_tile[i * kTile + k];
      }
      for (int64_t b = 0; b < wide; ++b) {
        MultiplyTile(dz, kTile, 1, outs, kTile, transposed + b * kTile * kTile, sums + s * share + b * outs * kTile,
                     t > first);
      }
    }
  });
  Pool::Get().Run(wide, [&](int64_t b) {
    const int64_t columns_left = std::min<int64_t>(kTile, ins - b * kTile);
    for (int64_t o = 0; o < outs; ++o) {
      float *to = dw + o * ins + b * kTile;
      const float *from = sums + (b * outs + o) * kTile;
      std::copy_n(from, columns_left, to);
      for (int64_t s = 1; s < shares; ++s) {
        for (int64_t i = 0; i < columns_left; ++i) to[i] += from[s * share + i];
      }
    }
  });
}

}  // namespace litehrnet
