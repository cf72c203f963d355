// One channel of an image, and resampling by factors of 2.
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
  int64_t height, width;

  int64_t pixels() const { return height * width; }
  Plane Stepped(int64_t step) const { return {(height + step - 1) / step, (width + step - 1) / step}; }
};

}  // namespace litehrnet
