// Depthwise 3x3 convolution of one plane, padding 1.
//
// A plane is copied into a zero-bordered buffer that stays in the first-level cache; with a row stride of W + 2 every
// tap is then one contiguous loop over the whole plane, which compilers vectorise.
#pragma once
#include <algorithm>
#include <cstdint>

namespace litehrnet {

// row (width) = each of from's values `factor` times.
template <int factor>
inline void EnlargeBy(const float *from, int64_t width, float *row) {
  for (int64_t k = 0; k < width / factor; ++k) {
    for (int i = 0; i < factor; ++i) row[k * factor + i] = from[k];
  }
}

// to (width / factor) = sums of `factor` values of row.
template <int factor>
inline void SumRowBy(const float *row, int64_t width, float *to) {
  for (int64_t k = 0; k < width / factor; ++k) {
    float sum = 0;
    for (int i = 0; i < factor; ++i) sum += row[k * factor + i];
    to[k] = sum;
  }
}

// Factors of the network are known when this is compiled, so that the loops vectorise; four branches have no other.
inline void Enlarge(const float *from, int64_t width, int64_t factor, float *row) {
  (factor == 1 ? EnlargeBy<1> : factor == 2 ? EnlargeBy<2> : factor == 4 ? EnlargeBy<4> : EnlargeBy<8>)(from, width, row);
}

inline void SumRow(const float *row, int64_t width, int64_t factor, float *to) {
  (factor == 1 ? SumRowBy<1> : factor == 2 ? SumRowBy<2> : factor == 4 ? SumRowBy<4> : SumRowBy<8>)(row, width, to);
}

// to = sums of a plane's blocks of factor x factor values; row: scratch of `width` floats.
inline void SumBlocks(const float *from, int64_t height, int64_t width, int64_t factor, float *row, float *to) {
  for (int64_t y = 0; y < height; y += factor, from += factor * width, to += width / factor) {
    std::copy_n(from, width, row);
    for (int64_t r = 1; r < factor; ++r) {
      for (int64_t k = 0; k < width; ++k) row[k] += from[r * width + k];
    }
    SumRow(row, width, factor, to);
  }
}

// out = high + share * (low, enlarged by `factor`); out may be high itself; row: scratch of `width` floats.
inline void AddEnlarged(const float *high, const float *low, int64_t height, int64_t width, int64_t factor, float share,
                        float *row, float *out) {
  for (int64_t y = 0; y < height; ++y, high += width, out += width) {
    if (y % factor == 0) Enlarge(low + y / factor * (width / factor), width, factor, row);
    for (int64_t k = 0; k < width; ++k) out[k] = high[k] + share * row[k];
  }
}

struct Plane {
  static constexpr int64_t kWide = 16;  // rows shorter than this are filtered as one with their neighbours
  static constexpr int64_t kTail = 16;  // the loops over a plane read a little past its end

  int64_t height, width, stride;
  Plane(int64_t h, int64_t w) : height(h), width(w), stride(w + 2) {}

  int64_t pixels() const { return height * width; }
  int64_t Pixels(int64_t step) const { return (height + step - 1) / step * ((width + step - 1) / step); }  // of Filter
  int64_t padded() const { return (height + 2) * stride + kTail; }

  // A buffer for padded planes starts as zeros; Pad and Dilate leave the border so.
  void Clear(float *to, int64_t planes) const { std::fill_n(to, planes * padded(), 0.0f); }

  void Pad(const float *from, float *to) const {
    for (int64_t y = 0; y < height; ++y) std::copy_n(from + y * width, width, to + (y + 1) * stride + 1);
  }

  // Pad of from * (weight, enlarged by `factor`); row: scratch of `width` floats.
  void PadWeighted(const float *from, const float *weight, int64_t factor, float *row, float *to) const {
    for (int64_t y = 0; y < height; ++y, from += width) {
      if (y % factor == 0) Enlarge(weight + y / factor * (width / factor), width, factor, row);
      float *out = to + (y + 1) * stride + 1;
      for (int64_t k = 0; k < width; ++k) out[k] = from[k] * row[k];
    }
  }

  // Pad of what Filter gives: its values at every step-th place; the places between stay zero.
  void Dilate(const float *from, int64_t step, float *to) const {
    for (int64_t y = 0; y < height; y += step) {
      float *out = to + (y + 1) * stride + 1;
      for (int64_t k = 0; k < width; k += step) out[k] = *from++;
    }
  }

  // The convolution at every step-th row and column, packed; wide: scratch of height * stride + kTail floats.
  void Filter(const float *padded_plane, const float *w, int64_t step, float *wide, float *out) const {
    const float *a = padded_plane, *b = a + stride, *c = b + stride;
    if (step == 1 && width >= kWide) {
      for (int64_t y = 0; y < height; ++y, out += width, a += stride, b += stride, c += stride) {
        for (int64_t i = 0; i < width; ++i) {
          out[i] = w[0] * a[i] + w[1] * a[i + 1] + w[2] * a[i + 2] + w[3] * b[i] + w[4] * b[i + 1] + w[5] * b[i + 2] +
                   w[6] * c[i] + w[7] * c[i + 1] + w[8] * c[i + 2];
        }
      }
      return;
    }
    for (int64_t i = 0; i < height * stride; ++i) {
      wide[i] = w[0] * a[i] + w[1] * a[i + 1] + w[2] * a[i + 2] + w[3] * b[i] + w[4] * b[i + 1] + w[5] * b[i + 2] +
                w[6] * c[i] + w[7] * c[i + 1] + w[8] * c[i + 2];
    }
    for (int64_t y = 0; y < height; y += step) {
      const float *from = wide + y * stride;
      if (step == 1) {
        out = std::copy_n(from, width, out);
      } else {
        for (int64_t k = 0; k < width; k += step) *out++ = from[k];
      }
    }
  }

  // sum[tap] += gradient of the filter; both planes padded, `gradient` with zeros on its border.
  void FilterGradient(const float *padded_plane, const float *gradient, float *sum) const {
    const float *d = gradient + stride + 1, *p = padded_plane, *q = p + stride, *s = q + stride;
    float t[9] = {0};
    for (int64_t k = 0; k < height * stride - 1; ++k) {
      t[0] += d[k] * p[k], t[1] += d[k] * p[k + 1], t[2] += d[k] * p[k + 2];
      t[3] += d[k] * q[k], t[4] += d[k] * q[k + 1], t[5] += d[k] * q[k + 2];
      t[6] += d[k] * s[k], t[7] += d[k] * s[k + 1], t[8] += d[k] * s[k + 2];
    }
    for (int k = 0; k < 9; ++k) sum[k] += t[k];
  }
};

}  // namespace litehrnet
