// A whole conditional channel weighting block (`src.model.WeightingBlock`) as one operator, and its gradient as another.
//
// The second half of each branch's channels is weighted by what all branches see together (cross-resolution
// weighting), filtered (depthwise 3x3 + BN) and weighted by its own means (spatial weighting); the result is
// interleaved with the first half. One operator of all this reads and writes each large tensor once where operators of
// the framework do it twenty times. Notation: N pictures, n branches, branch b of 2 * C_b channels and P_b pixels,
// T = sum of C_b, p pixels of the smallest branch, h and h_b hidden channels of the two weightings.
#include <utility>

#include "dense_norm.h"
#include "operator.h"
#include "plane.h"

namespace litehrnet {
namespace {

struct Branch {
  Plane plane;
  int64_t channels, hidden, offset, factor;  // C_b, h_b, first of the T channels, enlargement of the smallest branch
};

struct Geometry {
  int64_t batch = 0, total = 0, hidden = 0, largest = 0;
  std::vector<Branch> branches;
  std::vector<std::pair<int, int64_t>> tasks;  // (branch, channel)
  Columns low{0, 0};

  // xs stand from tensor `first` on, weight tensors of shape (h, T, 1, 1) and (h_b, C_b, 1, 1) where said.
  Geometry(Tensors t, int n, int first, int weight, int fc, int fc_step) {
    batch = t.shape(first, 0), hidden = t.shape(weight, 0);
    const int64_t smallest = t.shape(first + n - 1, 2);
    for (int b = 0; b < n; ++b) {
      const int64_t channels = t.shape(first + b, 1) / 2, height = t.shape(first + b, 2);
      branches.push_back({Plane(height, t.shape(first + b, 3)), channels, t.shape(fc + b * fc_step, 0), total,
                          height / smallest});
      for (int64_t c = 0; c < channels; ++c) tasks.push_back({b, c});
      total += channels;
    }
    low = {batch, branches.back().plane.pixels()};
  }

  // work(branch number, branch, channel)
  template <typename F>
  void Each(const F &work) const {
    Pool::Get().Run(static_cast<int64_t>(tasks.size()), [&](int64_t i, int) {
      work(tasks[i].first, branches[tasks[i].first], tasks[i].second);
    });
  }

  // Offsets of planes: of the kept and the changed half of an input, of both in the output, of the smallest branch.
  static int64_t Kept(const Branch &b, int64_t n, int64_t c) { return (n * 2 * b.channels + c) * b.plane.pixels(); }
  static int64_t Changed(const Branch &b, int64_t n, int64_t c) { return Kept(b, n, b.channels + c); }
  static int64_t Even(const Branch &b, int64_t n, int64_t c) { return Kept(b, n, 2 * c); }
  static int64_t Odd(const Branch &b, int64_t n, int64_t c) { return Kept(b, n, 2 * c + 1); }
  int64_t Low(const Branch &b, int64_t n, int64_t c) const { return (n * total + b.offset + c) * low.pixels; }
};

// pooled (N, T, p) = means of the changed halves over the smallest branch's pixels.
void AveragePool(const Geometry &g, const std::vector<float *> &xs, float *pooled) {
  g.Each([&](int i, const Branch &b, int64_t c) {
    float *row = Scratch(0, b.plane.width);
    const float share = 1.0f / static_cast<float>(b.factor * b.factor);
    for (int64_t n = 0; n < g.batch; ++n) {
      float *to = pooled + g.Low(b, n, c);
      SumSquares(xs[i] + g.Changed(b, n, c), b.plane.height, b.plane.width, b.factor, row, to);
      for (int64_t k = 0; k < g.low.pixels; ++k) to[k] *= share;
    }
  });
}

// exp(x) in a form that vectorises: 2^n * p(r) with x = n ln 2 + r, |r| < 0.35; off by at most 2e-7 of the value.
inline float Exp(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float n = std::nearbyint(x * 1.44269504f), r = x - n * 0.693145752f - n * 1.42860677e-6f;
  const float p = 1 + r * (1 + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

void Sigmoid(float *values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = 1 / (1 + Exp(-values[i]));
}

// The filtered changed half to the odd channels of ys, its means to means[b] (N, C_b), the kept half to the even ones.
// affine(b, c, z) gives BN from all of a channel's convolution z (N, P_b).
template <typename F>
void FilterBranches(const Geometry &g, const std::vector<float *> &xs, const std::vector<float *> &filters,
                    const float *weight, const std::vector<float *> &ys, const std::vector<float *> &means,
                    const F &affine) {
  g.Each([&](int i, const Branch &b, int64_t c) {
    const int64_t pixels = b.plane.pixels();
    float *padded = Scratch(0, b.plane.padded()), *wide = Scratch(1, b.plane.padded());
    float *z = Scratch(2, g.batch * pixels), *row = Scratch(3, b.plane.width);
    b.plane.Clear(padded, 1);
    for (int64_t n = 0; n < g.batch; ++n) {
      b.plane.PadWeighted(xs[i] + g.Changed(b, n, c), weight + g.Low(b, n, c), b.factor, row, padded);
      b.plane.Filter(padded, filters[i] + c * 9, 1, wide, z + n * pixels);
    }
    const Affine a = affine(i, c, z);
    for (int64_t n = 0; n < g.batch; ++n) {
      float *to = ys[i] + g.Odd(b, n, c), sum = 0;
      for (int64_t k = 0; k < pixels; ++k) {
        to[k] = a.scale * z[n * pixels + k] + a.shift;
        sum += to[k];
      }
      means[i][n * b.channels + c] = sum / static_cast<float>(pixels);
      std::copy_n(xs[i] + g.Kept(b, n, c), pixels, ys[i] + g.Even(b, n, c));
    }
  });
}

// One branch's spatial weighting: two dense layers with bias on the means, for each picture.
struct Gate {
  const float *weight1, *bias1, *weight2, *bias2;  // (h_b, C_b), (h_b), (C_b, h_b), (C_b)
  float *means, *hidden, *gates;                   // (N, C_b), (N, h_b), (N, C_b)

  void Forward(const Branch &b, int64_t n) const {
    const float *m = means + n * b.channels;
    float *h = hidden + n * b.hidden, *g = gates + n * b.channels;
    for (int64_t j = 0; j < b.hidden; ++j) {
      float sum = bias1[j];
      for (int64_t c = 0; c < b.channels; ++c) sum += weight1[j * b.channels + c] * m[c];
      h[j] = sum < 0 ? 0 : sum;
    }
    for (int64_t c = 0; c < b.channels; ++c) {
      float sum = bias2[c];
      for (int64_t j = 0; j < b.hidden; ++j) sum += weight2[c * b.hidden + j] * h[j];
      g[c] = sum;
    }
    Sigmoid(g, b.channels);
  }

  // From d (N, C_b), the gradient before the sigmoid, to that of the means, in place, and of the parameters.
  void Backward(const Branch &b, int64_t batch, float *d, float *dweight1, float *dbias1, float *dweight2,
                float *dbias2) const {
    std::fill_n(dweight1, b.hidden * b.channels, 0.0f), std::fill_n(dbias1, b.hidden, 0.0f);
    std::fill_n(dweight2, b.hidden * b.channels, 0.0f), std::fill_n(dbias2, b.channels, 0.0f);
    std::vector<float> dh(b.hidden);
    for (int64_t n = 0; n < batch; ++n, d += b.channels) {
      const float *m = means + n * b.channels, *h = hidden + n * b.hidden;
      std::fill(dh.begin(), dh.end(), 0.0f);
      for (int64_t c = 0; c < b.channels; ++c) {
        dbias2[c] += d[c];
        for (int64_t j = 0; j < b.hidden; ++j) {
          dweight2[c * b.hidden + j] += d[c] * h[j];
          dh[j] += d[c] * weight2[c * b.hidden + j];
        }
      }
      std::fill_n(d, b.channels, 0.0f);
      for (int64_t j = 0; j < b.hidden; ++j) {
        const float v = h[j] > 0 ? dh[j] : 0;
        dbias1[j] += v;
        for (int64_t c = 0; c < b.channels; ++c) {
          dweight1[j * b.channels + c] += v * m[c];
          d[c] += v * weight1[j * b.channels + c];
        }
      }
    }
  }
};

void ApplyGates(const Geometry &g, const std::vector<Gate> &gates, const std::vector<float *> &ys) {
  const int64_t n_branches = static_cast<int64_t>(g.branches.size());
  Pool::Get().Run(g.batch * n_branches, [&](int64_t i, int) {
    gates[i % n_branches].Forward(g.branches[i % n_branches], i / n_branches);
  });
  g.Each([&](int i, const Branch &b, int64_t c) {
    for (int64_t n = 0; n < g.batch; ++n) {
      const float gate = gates[i].gates[n * b.channels + c];
      float *to = ys[i] + g.Odd(b, n, c);
      for (int64_t k = 0; k < b.plane.pixels(); ++k) to[k] *= gate;
    }
  });
}

// Inputs: xs (N, 2 C_b, H_b, W_b); cross-resolution weighting: twice (weight, gamma, beta, moving mean, moving
// variance); for each branch: depthwise weight, gamma, beta, moving mean, moving variance, spatial weighting: weight,
// bias, weight, bias; momentum.
// Outputs: ys; pooled (N, T, p), z1, a1 (N, h, p), z2, weight (N, T, p), statistics (2, h), (2, T); for each branch:
// statistics (2, C_b), means, hidden, gates.
void WeightingTrain(Tensors t) {
  const int n = (t.count() - 18) / 15, crw = n, own = n + 10, momentum = own + 9 * n, out = momentum + 1;
  const int saved = out + n, saved_own = saved + 7;
  const Geometry g(t, n, 0, crw, own + 5, 9);
  std::vector<float *> xs, ys, filters, means;
  std::vector<Gate> gates;
  std::vector<Norm> norms;
  for (int b = 0; b < n; ++b) {
    const int p = own + 9 * b, s = saved_own + 4 * b;
    xs.push_back(t[b]), ys.push_back(t[out + b]), filters.push_back(t[p]), means.push_back(t[s + 1]);
    norms.push_back({t[p + 1], t[p + 2], t[p + 3], t[p + 4], t[momentum], t[s]});
    gates.push_back({t[p + 5], t[p + 6], t[p + 7], t[p + 8], t[s + 1], t[s + 2], t[s + 3]});
  }
  const Norm norm1{t[crw + 1], t[crw + 2], t[crw + 3], t[crw + 4], t[momentum], t[saved + 5]};
  const Norm norm2{t[crw + 6], t[crw + 7], t[crw + 8], t[crw + 9], t[momentum], t[saved + 6]};
  float *pooled = t[saved], *z1 = t[saved + 1], *a1 = t[saved + 2], *z2 = t[saved + 3], *weight = t[saved + 4];
  const auto same = [](int64_t, float v) { return v; };

  AveragePool(g, xs, pooled);
  Dense(pooled, t[crw], z1, g.low, g.total, g.hidden, same);
  TrainNorm<true>(norm1, g.low, g.hidden, z1, a1);
  Dense(a1, t[crw + 5], z2, g.low, g.hidden, g.total, same);
  TrainNorm<false>(norm2, g.low, g.total, z2, weight);
  Pool::Get().Run(g.batch, [&](int64_t i, int) { Sigmoid(weight + i * g.total * g.low.pixels, g.total * g.low.pixels); });
  FilterBranches(g, xs, filters, weight, ys, means, [&](int b, int64_t c, const float *z) {
    const int64_t pixels = g.branches[b].plane.pixels();
    return norms[b].Train(c, g.branches[b].channels, z, g.batch, pixels, pixels);
  });
  ApplyGates(g, gates, ys);
}

// Inputs: xs; cross-resolution weighting: twice (weight, scale, shift); for each branch: depthwise weight, scale,
// shift, spatial weighting: weight, bias, weight, bias. Outputs: ys.
void WeightingInference(Tensors t) {
  const int n = (t.count() - 6) / 9, crw = n, own = n + 6, out = own + 7 * n;
  const Geometry g(t, n, 0, crw, own + 3, 7);
  const int64_t low = g.batch * g.low.pixels;
  std::vector<float> means(3 * g.batch * g.total);
  float *pooled = Scratch(5, low * g.total), *a1 = Scratch(6, low * g.hidden), *weight = Scratch(7, low * g.total);
  std::vector<float *> xs, ys, filters, all_means;
  std::vector<Gate> gates;
  for (int b = 0; b < n; ++b) {
    const int p = own + 7 * b;
    float *m = means.data() + g.branches[b].offset * g.batch, *h = m + g.batch * g.total, *v = h + g.batch * g.total;
    xs.push_back(t[b]), ys.push_back(t[out + b]), filters.push_back(t[p]), all_means.push_back(m);
    gates.push_back({t[p + 3], t[p + 4], t[p + 5], t[p + 6], m, h, v});
  }
  const float *scale1 = t[crw + 1], *shift1 = t[crw + 2], *scale2 = t[crw + 4], *shift2 = t[crw + 5];
  AveragePool(g, xs, pooled);
  Dense(pooled, t[crw], a1, g.low, g.total, g.hidden, [=](int64_t c, float v) {
    v = scale1[c] * v + shift1[c];
    return v < 0 ? 0 : v;
  });
  Dense(a1, t[crw + 3], weight, g.low, g.hidden, g.total, [=](int64_t c, float v) { return scale2[c] * v + shift2[c]; });
  Pool::Get().Run(g.batch, [&](int64_t i, int) { Sigmoid(weight + i * g.total * g.low.pixels, g.total * g.low.pixels); });
  FilterBranches(g, xs, filters, weight, ys, all_means, [&](int b, int64_t c, const float *) {
    return Affine{t[own + 7 * b + 1][c], t[own + 7 * b + 2][c]};
  });
  ApplyGates(g, gates, ys);
}

// Phase of the gradient between the two weightings, one channel: from dy to dx of the changed half, without what comes
// through the pooling, and to the gradient of the smallest branch's weights.
struct FilterGradients {
  const float *x, *dy, *weight, *filter, *gamma, *saved, *gates, *dmeans;
  float *dx, *dweight, *dfilter, *dgamma, *dbeta;

  void Run(const Geometry &g, const Branch &b, int64_t c) const {
    const Plane &plane = b.plane;
    const int64_t pixels = plane.pixels();
    float *padded = Scratch(0, g.batch * plane.padded()), *wide = Scratch(1, plane.padded());
    float *z = Scratch(2, g.batch * pixels), *spread = Scratch(3, plane.padded()), *row = Scratch(4, plane.width);
    float *d = Scratch(5, g.batch * pixels);
    plane.Clear(padded, g.batch), plane.Clear(spread, 1);
    const float mean = saved[c];
    double sum_d = 0, sum_centred = 0;
    for (int64_t n = 0; n < g.batch; ++n) {
      plane.PadWeighted(x + g.Changed(b, n, c), weight + g.Low(b, n, c), b.factor, row, padded + n * plane.padded());
      float *zn = z + n * pixels, *dn = d + n * pixels;
      plane.Filter(padded + n * plane.padded(), filter + c * 9, 1, wide, zn);
      const float *from = dy + g.Odd(b, n, c);
      const float gate = gates[n * b.channels + c], rest = dmeans[n * b.channels + c] / static_cast<float>(pixels);
      float s = 0, sz = 0;
      for (int64_t k = 0; k < pixels; ++k) {
        dn[k] = from[k] * gate + rest;
        s += dn[k], sz += dn[k] * (zn[k] - mean);
      }
      sum_d += s, sum_centred += sz;
    }
    const NormGradient norm(gamma[c], mean, saved[b.channels + c], sum_d, sum_centred,
                            static_cast<double>(g.batch * pixels), dgamma + c, dbeta + c);
    float mirrored[9], sum[9] = {0};
    for (int k = 0; k < 9; ++k) mirrored[k] = filter[c * 9 + 8 - k];
    for (int64_t n = 0; n < g.batch; ++n) {
      float *zn = z + n * pixels, *dn = d + n * pixels;
      for (int64_t k = 0; k < pixels; ++k) dn[k] = norm.a * dn[k] + norm.b * zn[k] + norm.c;
      plane.Spread(dn, 1, spread);
      plane.FilterGradient(padded + n * plane.padded(), spread, sum);
      plane.Filter(spread, mirrored, 1, wide, zn);
      Split(g, b, n, c, zn, dn, row);
    }
    std::copy_n(sum, 9, dfilter + c * 9);
  }

  // From the gradient of x * (enlarged weight), in zn, to those of both factors.
  void Split(const Geometry &g, const Branch &b, int64_t n, int64_t c, const float *zn, float *product,
             float *row) const {
    const int64_t width = b.plane.width, low = width / b.factor;
    const float *from = x + g.Changed(b, n, c), *w = weight + g.Low(b, n, c);
    float *to = dx + g.Changed(b, n, c);
    for (int64_t k = 0; k < b.plane.pixels(); ++k) product[k] = zn[k] * from[k];
    SumSquares(product, b.plane.height, width, b.factor, row, dweight + g.Low(b, n, c));
    for (int64_t y = 0; y < b.plane.height; ++y) {
      if (y % b.factor == 0) Enlarge(w + y / b.factor * low, width, b.factor, row);
      for (int64_t k = 0; k < width; ++k) to[y * width + k] = zn[y * width + k] * row[k];
    }
    std::copy_n(dy + g.Even(b, n, c), b.plane.pixels(), dx + g.Kept(b, n, c));
  }
};

// dx of the changed halves += gradient of the pooling.
void AddPoolGradient(const Geometry &g, const float *dpooled, const std::vector<float *> &dxs) {
  g.Each([&](int i, const Branch &b, int64_t c) {
    const float share = 1.0f / static_cast<float>(b.factor * b.factor);
    float *row = Scratch(0, b.plane.width);
    for (int64_t n = 0; n < g.batch; ++n) {
      float *dx = dxs[i] + g.Changed(b, n, c);
      AddEnlarged(dx, dpooled + g.Low(b, n, c), b.plane.height, b.plane.width, b.factor, share, row, dx);
    }
  });
}

// Inputs: dys, xs, ys; cross-resolution weighting: twice (weight, gamma, beta); for each branch: depthwise weight,
// gamma, spatial weighting's two weights; then what WeightingTrain saved. Outputs: dxs; gradients of cross-resolution
// weighting: twice (weight, gamma, beta); for each branch: of depthwise weight, gamma, beta, spatial weighting: weight,
// bias, weight, bias.
void WeightingGradient(Tensors t) {
  const int n = (t.count() - 19) / 19, crw = 3 * n, own = crw + 6, saved = own + 4 * n, saved_own = saved + 7;
  const int out = saved_own + 4 * n, dcrw = out + n, down = dcrw + 6;
  const Geometry g(t, n, n, crw, own + 2, 4);
  const int64_t low = g.batch * g.low.pixels;
  const float *pooled = t[saved], *z1 = t[saved + 1], *a1 = t[saved + 2], *z2 = t[saved + 3], *weight = t[saved + 4];
  std::vector<float> d(g.batch * g.total);
  float *dlow = Scratch(6, low * g.total), *dlow2 = Scratch(7, low * g.total);
  std::vector<FilterGradients> filters;
  std::vector<Gate> gates;
  std::vector<float *> dxs;
  for (int b = 0; b < n; ++b) {
    const int p = own + 4 * b, s = saved_own + 4 * b, dp = down + 7 * b;
    float *db = d.data() + g.branches[b].offset * g.batch;
    gates.push_back({t[p + 2], nullptr, t[p + 3], nullptr, t[s + 1], t[s + 2], t[s + 3]});
    filters.push_back({t[n + b], t[b], weight, t[p], t[p + 1], t[s], t[s + 3], db, t[out + b], dlow, t[dp],
                       t[dp + 1], t[dp + 2]});
    dxs.push_back(t[out + b]);
  }

  // Spatial weighting: sum(dy * y) is the gate times the gate's gradient.
  g.Each([&](int i, const Branch &b, int64_t c) {
    for (int64_t k = 0; k < g.batch; ++k) {
      const float *dy = t[i] + g.Odd(b, k, c), *y = t[2 * n + i] + g.Odd(b, k, c);
      float sum = 0;
      for (int64_t j = 0; j < b.plane.pixels(); ++j) sum += dy[j] * y[j];
      d[b.offset * g.batch + k * b.channels + c] = sum * (1 - gates[i].gates[k * b.channels + c]);
    }
  });
  Pool::Get().Run(n, [&](int64_t b, int) {
    const int dp = down + 7 * static_cast<int>(b);
    gates[b].Backward(g.branches[b], g.batch, d.data() + g.branches[b].offset * g.batch, t[dp + 3], t[dp + 4], t[dp + 5],
                      t[dp + 6]);
  });
  g.Each([&](int i, const Branch &b, int64_t c) { filters[i].Run(g, b, c); });

  // Cross-resolution weighting
  for (int64_t k = 0; k < low * g.total; ++k) dlow[k] *= weight[k] * (1 - weight[k]);
  const ActivatedNormGradient<false> norm2(g.low, g.total, dlow, t[crw + 4], t[crw + 5], z2, t[saved + 6],
                                           t[dcrw + 4], t[dcrw + 5]);
  DenseGradient(a1, t[crw + 3], dlow2, t[dcrw + 3], g.low, g.hidden, g.total,
                [&](int64_t i, float *tile) { norm2.Pack(i, tile); });
  const ActivatedNormGradient<true> norm1(g.low, g.hidden, dlow2, t[crw + 1], t[crw + 2], z1, t[saved + 5],
                                          t[dcrw + 1], t[dcrw + 2]);
  DenseGradient(pooled, t[crw], dlow, t[dcrw], g.low, g.total, g.hidden,
                [&](int64_t i, float *tile) { norm1.Pack(i, tile); });
  AddPoolGradient(g, dlow, dxs);
}

}  // namespace
}  // namespace litehrnet

OPERATOR(WeightingTrain, WeightingTrain)
OPERATOR(WeightingGradient, WeightingGradient)
OPERATOR(WeightingInference, WeightingInference)
