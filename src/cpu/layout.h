// 3x3 convolution of one plane, padding 1.
//
// A plane is copied into a zero-bordered buffer that stays in the first-level cache, laid out so that what a tap of the
// filter reads is one contiguous run for all outputs; compilers vectorise loops over that.
#pragma once
#include <type_traits>

#include "plane.h"

namespace litehrnet {

constexpr int64_t kTail = 16;  // zeros behind a buffer: the loops read a little past its end

// Where each tap finds what it reads for outputs in rows of `stride`: `columns` values and a border.
struct Taps {
  const float *at[9];
  Plane out;
  int64_t stride;

  // out = the convolution, packed; wide: scratch of a buffer's size.
  void Filter(const float *weight, float *wide, float *packed) const {
    constexpr int64_t kWide = 16;  // shorter rows are filtered as one with their neighbours
    if (out.width >= kWide) {
      for (int64_t y = 0; y < out.height; ++y) Sum(weight, y * stride, out.width, packed + y * out.width);
      return;
    }
    Sum(weight, 0, out.height * stride, wide);
    for (int64_t y = 0; y < out.height; ++y) std::copy_n(wide + y * stride, out.width, packed + y * out.width);
  }

  // sum[tap] += gradient of the filter; `gradient`: the outputs', in rows of `stride` with zeros between them.
  void FilterGradient(const float *gradient, float *sum) const {
    const float *d = gradient, *a = at[0], *b = at[1], *c = at[2], *p = at[3], *q = at[4], *r = at[5], *x = at[6],
                *y = at[7], *z = at[8];
    float t[9] = {0};
    for (int64_t i = 0; i < out.height * stride - 1; ++i) {
      t[0] += d[i] * a[i], t[1] += d[i] * b[i], t[2] += d[i] * c[i];
      t[3] += d[i] * p[i], t[4] += d[i] * q[i], t[5] += d[i] * r[i];
      t[6] += d[i] * x[i], t[7] += d[i] * y[i], t[8] += d[i] * z[i];
    }
    for (int k = 0; k < 9; ++k) sum[k] += t[k];
  }

 private:
  void Sum(const float *w, int64_t first, int64_t count, float *__restrict to) const {
    const float *a = at[0] + first, *b = at[1] + first, *c = at[2] + first, *p = at[3] + first, *q = at[4] + first,
                *r = at[5] + first, *x = at[6] + first, *y = at[7] + first, *z = at[8] + first;
    for (int64_t i = 0; i < count; ++i) {
      to[i] = w[0] * a[i] + w[1] * b[i] + w[2] * c[i] + w[3] * p[i] + w[4] * q[i] + w[5] * r[i] + w[6] * x[i] +
              w[7] * y[i] + w[8] * z[i];
    }
  }
};

// For stride 1: a plane with a border.
struct Padded {
  Plane plane;
  int64_t stride;

  explicit Padded(const Plane &p) : plane(p), stride(p.width + 2) {}

  int64_t pixels() const { return plane.pixels(); }  // of the output
  int64_t floats() const { return (plane.height + 2) * stride + kTail; }

  void Lay(const float *from, float *to) const {
    std::fill_n(to, floats(), 0.0f);
    for (int64_t y = 0; y < plane.height; ++y) std::copy_n(from + y * plane.width, plane.width, to + (y + 1) * stride + 1);
  }

  // Lay of from * (weight, enlarged by `factor`); row: scratch of a row.
  void LayWeighted(const float *from, const float *weight, int64_t factor, float *row, float *to) const {
    const int64_t width = plane.width;
    std::fill_n(to, floats(), 0.0f);
    for (int64_t y = 0; y < plane.height; ++y, from += width) {
      if (y % factor == 0) Enlarge(weight + y / factor * (width / factor), width, factor, row);
      float *out = to + (y + 1) * stride + 1;
      for (int64_t k = 0; k < width; ++k) out[k] = from[k] * row[k];
    }
  }

  Taps TapsOf(const float *laid) const {
    const float *a = laid, *b = a + stride, *c = b + stride;
    return {{a, a + 1, a + 2, b, b + 1, b + 2, c, c + 1, c + 2}, plane, stride};
  }

  // The outputs' gradient, as Taps::FilterGradient takes it; in a buffer.
  const float *LayGradient(const float *from, float *to) const {
    Lay(from, to);
    return to + stride + 1;
  }

  // dx from what LayGradient gave.
  void InputGradient(const float *gradient, const float *weight, float *wide, float *dx) const {
    float mirrored[9];
    for (int k = 0; k < 9; ++k) mirrored[k] = weight[8 - k];
    TapsOf(gradient - stride - 1).Filter(mirrored, wide, dx);
  }
};

// For stride 2: even and odd rows and columns apart, as four planes of a row and a column more than the output. Place
// (y, x) of phase (a, b) is (2y - 1 + a, 2x - 1 + b) of the plane.
struct Phases {
  Plane plane, out;
  int64_t stride, size;

  explicit Phases(const Plane &p) : plane(p), out(p.Stepped(2)), stride(out.width + 1), size((out.height + 1) * stride) {}

  int64_t pixels() const { return out.pixels(); }  // of the output
  int64_t floats() const { return 4 * size + kTail; }

  void Lay(const float *from, float *to) const {
    std::fill_n(to, floats(), 0.0f);
    for (int64_t y = 0; y < plane.height; ++y, from += plane.width) {
      float *odd = to + (y + 1) % 2 * 2 * size + (y + 1) / 2 * stride + 1, *even = odd - 1 + size;
      for (int64_t k = 0; k < plane.width / 2; ++k) even[k] = from[2 * k], odd[k] = from[2 * k + 1];
      if (plane.width % 2) even[out.width - 1] = from[plane.width - 1];
    }
  }

  Taps TapsOf(const float *laid) const {
    const float *a = laid, *b = a + size, *c = b + size, *d = c + size;
    return {{a, b, a + 1, c, d, c + 1, a + stride, b + stride, a + stride + 1}, out, stride};
  }

  const float *LayGradient(const float *from, float *to) const {
    std::fill_n(to, size + kTail, 0.0f);
    for (int64_t y = 0; y < out.height; ++y) std::copy_n(from + y * out.width, out.width, to + y * stride);
    return to;
  }

  void InputGradient(const float *gradient, const float *w, float *, float *dx) const {
    for (int64_t y = 0; y < out.height; ++y, gradient += stride) {
      const float *d = gradient, *e = d + stride;  // of this row of outputs and the next
      float *even = dx + 2 * y * plane.width, *odd = even + plane.width;
      WriteRow(even, [=](int64_t x) { return w[4] * d[x]; }, [=](int64_t x) { return w[5] * d[x] + w[3] * d[x + 1]; });
      if (2 * y + 1 == plane.height) return;
      WriteRow(odd, [=](int64_t x) { return w[7] * d[x] + w[1] * e[x]; },
               [=](int64_t x) { return w[8] * d[x] + w[6] * d[x + 1] + w[2] * e[x] + w[0] * e[x + 1]; });
    }
  }

 private:
  template <typename Even, typename Odd>
  void WriteRow(float *__restrict row, const Even &even, const Odd &odd) const {
    for (int64_t x = 0; x < plane.width / 2; ++x) row[2 * x] = even(x), row[2 * x + 1] = odd(x);
    if (plane.width % 2) row[plane.width - 1] = even(out.width - 1);
  }
};

template <int step>
using Layout = std::conditional_t<step == 1, Padded, Phases>;

}  // namespace litehrnet
