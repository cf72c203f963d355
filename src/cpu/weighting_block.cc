// A whole conditional channel weighting block (`src.model.WeightingBlock`) as one operator, its gradient as another.
//
// The second half of each branch's channels is weighted by what all branches see together (cross-resolution
// weighting), filtered (depthwise 3x3 + BN) and weighted by its own means (spatial weighting); the result is
// interleaved with the first half. One operator of all this reads and writes each large tensor once where operators of
// the framework do it twenty times. Notation: N images, n branches, branch b of 2 * C_b channels and P_b pixels,
// T = sum of C_b, p pixels of the smallest branch, h and h_b hidden channels of the two weightings.
#include <utility>

#include "dense_norm.h"
#include "depthwise.h"
#include "operator.h"

namespace litehrnet {
namespace {

// A convolution's weight with gamma and beta of its BN; in inference BN's scale and shift.
struct Unit {
  float *weight, *gamma, *beta;
};

struct Branch {
  Plane plane;
  int64_t channels, hidden, offset, factor;  // C_b, h_b, first of the T channels, enlargement of the smallest branch
  float *x;                                  // (N, 2 C_b, H_b, W_b)
  Unit filter;                               // (C_b, 1, 3, 3), (C_b), (C_b)
  float *weight1, *bias1, *weight2, *bias2;  // of spatial weighting: (h_b, C_b, 1, 1), (h_b), (C_b, h_b, 1, 1), (C_b)
  float *y;                                  // like x
  float *statistics;                         // (2, C_b)
  float *means, *hiddens, *gates;            // (N, C_b), (N, h_b), (N, C_b)
};

// The tensors of all three operators, in their order: branches and parameters; then what training saves.
struct Block {
  int64_t batch = 0, total = 0, hidden = 0;
  std::vector<Branch> branches;
  std::vector<std::pair<int, int64_t>> tasks;  // (branch, channel)
  Columns low{0, 0};
  Unit cross[2];                             // (h, T, 1, 1), (h), (h) and (T, h, 1, 1), (T), (T)
  float *pooled, *z1, *a1, *z2, *weight;     // (N, T, p), (N, h, p) twice, (N, T, p) twice
  float *statistics1, *statistics2;          // (2, h), (2, T)

  Block(Tensors &t, int n) {
    const Images smallest = t.Axes(n - 1);
    batch = smallest.number, low = {batch, smallest.height * smallest.width}, hidden = t.Axis(n, 0);
    for (int b = 0; b < n; ++b) {
      const int64_t channels = t.Axis(b, 1) / 2, factor = int64_t{1} << (n - 1 - b);
      branches.push_back({{factor * smallest.height, factor * smallest.width}, channels, 0, total, factor});
      for (int64_t c = 0; c < channels; ++c) tasks.push_back({b, c});
      total += channels;
    }
    TakeInputs(t);
  }

  void TakeInputs(Tensors &t) {
    for (Branch &b : branches) b.x = t.TakeImages(Axes(b));
    cross[0] = {t.Take({hidden, total, 1, 1}), t.Take({hidden}), t.Take({hidden})};
    cross[1] = {t.Take({total, hidden, 1, 1}), t.Take({total}), t.Take({total})};
    for (Branch &b : branches) {
      b.filter = {t.Take({b.channels, 1, 3, 3}), t.Take({b.channels}), t.Take({b.channels})};
      if (!b.hidden) b.hidden = t.Axis(0, 0);  // the gradients' is the same
      b.weight1 = t.Take({b.hidden, b.channels, 1, 1}), b.bias1 = t.Take({b.hidden});
      b.weight2 = t.Take({b.channels, b.hidden, 1, 1}), b.bias2 = t.Take({b.channels});
    }
  }

  void TakeResults(Tensors &t) {
    for (Branch &b : branches) b.y = t.TakeImages(Axes(b));
  }

  void TakeSaved(Tensors &t) {
    Saved s = t.TakeSaved();
    const int64_t wide = batch * total * low.pixels, narrow = batch * hidden * low.pixels;
    pooled = s.Take(wide), z1 = s.Take(narrow), a1 = s.Take(narrow), z2 = s.Take(wide);
    statistics1 = s.Take(2 * hidden), statistics2 = s.Take(2 * total);
    for (Branch &b : branches) {
      b.statistics = s.Take(2 * b.channels), b.means = s.Take(batch * b.channels);
      b.hiddens = s.Take(batch * b.hidden), b.gates = s.Take(batch * b.channels);
    }
    s.End();
  }

  Images Axes(const Branch &b) const { return {batch, 2 * b.channels, b.plane.height, b.plane.width}; }

  // Image n alone; of inference only.
  Block Image(int64_t n) const {
    Block image = *this;
    image.batch = image.low.images = 1;
    for (Branch &b : image.branches) b.x += FirstHalf(b, n, 0), b.y += FirstHalf(b, n, 0);
    return image;
  }

  // work(branch, channel)
  template <typename F>
  void Each(const F &work) const {
    Pool::Get().Run(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
      work(branches[tasks[i].first], tasks[i].second);
    });
  }

  // Offsets of planes: of the halves of an input, of the same in the output, of the smallest branch.
  static int64_t FirstHalf(const Branch &b, int64_t n, int64_t c) { return (n * 2 * b.channels + c) * b.plane.pixels(); }
  static int64_t SecondHalf(const Branch &b, int64_t n, int64_t c) { return FirstHalf(b, n, b.channels + c); }
  static int64_t Even(const Branch &b, int64_t n, int64_t c) { return FirstHalf(b, n, 2 * c); }
  static int64_t Odd(const Branch &b, int64_t n, int64_t c) { return FirstHalf(b, n, 2 * c + 1); }
  int64_t Low(const Branch &b, int64_t n, int64_t c) const { return (n * total + b.offset + c) * low.pixels; }

  // Lays out image n's second half, weighted by what cross-resolution weighting gave.
  void Lay(const Branch &b, int64_t n, int64_t c, float *laid) const {
    float *row = Scratch(4, b.plane.width);
    Padded(b.plane).LayWeighted(b.x + SecondHalf(b, n, c), weight + Low(b, n, c), b.factor, row, laid);
  }
};

// pooled (N, T, p) = means of the second halves over the smallest branch's pixels.
void AveragePool(const Block &g) {
  g.Each([&](const Branch &b, int64_t c) {
    float *row = Scratch(0, b.plane.width);
    const float share = 1.0f / static_cast<float>(b.factor * b.factor);
    for (int64_t n = 0; n < g.batch; ++n) {
      float *to = g.pooled + g.Low(b, n, c);
      SumBlocks(b.x + g.SecondHalf(b, n, c), b.plane.height, b.plane.width, b.factor, row, to);
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

// The filtered second halves to the odd channels of the results, their means, the first halves to the even channels.
// affine(b, c, z) gives BN from all of a channel's convolution z (N, P_b).
template <typename F>
void FilterBranches(const Block &g, const F &affine) {
  g.Each([&](const Branch &b, int64_t c) {
    const int64_t pixels = b.plane.pixels();
    const Padded layout(b.plane);
    float *z = Scratch(2, g.batch * pixels), *laid = Scratch(0, layout.floats());
    FilterChannel(layout, g.batch, b.filter.weight + c * 9, [&](int64_t n) {
      g.Lay(b, n, c, laid);
      return laid;
    }, z);
    const Affine a = affine(b, c, z);
    for (int64_t n = 0; n < g.batch; ++n) {
      float *to = b.y + g.Odd(b, n, c), sum = 0;
      for (int64_t k = 0; k < pixels; ++k) {
        to[k] = a.scale * z[n * pixels + k] + a.shift;
        sum += to[k];
      }
      b.means[n * b.channels + c] = sum / static_cast<float>(pixels);
      std::copy_n(b.x + g.FirstHalf(b, n, c), pixels, b.y + g.Even(b, n, c));
    }
  });
}

// Spatial weighting of image n: two dense layers with bias on the means.
void Gate(const Branch &b, int64_t n) {
  const float *m = b.means + n * b.channels;
  float *h = b.hiddens + n * b.hidden, *g = b.gates + n * b.channels;
  for (int64_t j = 0; j < b.hidden; ++j) {
    float sum = b.bias1[j];
    for (int64_t c = 0; c < b.channels; ++c) sum += b.weight1[j * b.channels + c] * m[c];
    h[j] = sum < 0 ? 0 : sum;
  }
  for (int64_t c = 0; c < b.channels; ++c) {
    float sum = b.bias2[c];
    for (int64_t j = 0; j < b.hidden; ++j) sum += b.weight2[c * b.hidden + j] * h[j];
    g[c] = sum;
  }
  Sigmoid(g, b.channels);
}

void ApplyGates(const Block &g) {
  const int64_t n_branches = static_cast<int64_t>(g.branches.size());
  Pool::Get().Run(g.batch * n_branches, [&](int64_t i) { Gate(g.branches[i % n_branches], i / n_branches); });
  g.Each([&](const Branch &b, int64_t c) {
    for (int64_t n = 0; n < g.batch; ++n) {
      const float gate = b.gates[n * b.channels + c];
      float *to = b.y + g.Odd(b, n, c);
      for (int64_t k = 0; k < b.plane.pixels(); ++k) to[k] *= gate;
    }
  });
}

void SigmoidOfWeight(const Block &g) {
  const int64_t size = g.total * g.low.pixels;
  Pool::Get().Run(g.batch, [&](int64_t i) { Sigmoid(g.weight + i * size, size); });
}

// Takes branches and parameters; BN's moving means and variances, in the order of the units; the momenta. Gives the
// results and what the gradient needs.
template <int n>
void WeightingTrain(Tensors t) {
  Block g(t, n);
  const auto take_norm = [&](const Unit &unit, int64_t channels) {
    return Norm{unit.gamma, unit.beta, t.Take({channels}), t.Take({channels}), nullptr, nullptr};
  };
  std::vector<Norm> norms{take_norm(g.cross[0], g.hidden), take_norm(g.cross[1], g.total)};
  for (const Branch &b : g.branches) norms.push_back(take_norm(b.filter, b.channels));
  const float *momentum = t.Take({n + 2});
  g.TakeResults(t), g.TakeSaved(t), t.End();
  g.weight = Scratch(7, g.low.images * g.low.pixels * g.total);  // made again for the gradient
  norms[0].saved = g.statistics1, norms[1].saved = g.statistics2;
  for (int b = 0; b < n; ++b) norms[b + 2].saved = g.branches[b].statistics;
  for (Norm &norm : norms) norm.momentum = momentum++;
  const auto same = [](int64_t, float v) { return v; };

  AveragePool(g);
  Dense(g.pooled, g.cross[0].weight, g.z1, g.low, g.total, g.hidden, same);
  TrainNorm<true>(norms[0], g.low, g.hidden, g.z1, g.a1);
  Dense(g.a1, g.cross[1].weight, g.z2, g.low, g.hidden, g.total, same);
  TrainNorm<false>(norms[1], g.low, g.total, g.z2, g.weight);
  SigmoidOfWeight(g);
  FilterBranches(g, [&](const Branch &b, int64_t c, const float *z) {
    const int64_t pixels = b.plane.pixels();
    return norms[&b - g.branches.data() + 2].Train(c, b.channels, z, g.batch, pixels, pixels);
  });
  ApplyGates(g);
}

// The results of all images of a block, BN as scale and shift.
void Infer(Block g) {
  const int64_t low = g.batch * g.low.pixels;
  g.pooled = Scratch(5, low * g.total), g.a1 = Scratch(6, low * g.hidden), g.weight = Scratch(7, low * g.total);
  int64_t hidden = 0;
  for (const Branch &b : g.branches) hidden += b.hidden;
  std::vector<float> spatial(g.batch * (2 * g.total + hidden));
  float *next = spatial.data();
  for (Branch &b : g.branches) {
    b.means = next, b.gates = next += g.batch * b.channels, b.hiddens = next += g.batch * b.channels;
    next += g.batch * b.hidden;
  }
  AveragePool(g);
  Dense(g.pooled, g.cross[0].weight, g.a1, g.low, g.total, g.hidden, [&](int64_t c, float v) {
    v = g.cross[0].gamma[c] * v + g.cross[0].beta[c];
    return v < 0 ? 0 : v;
  });
  Dense(g.a1, g.cross[1].weight, g.weight, g.low, g.hidden, g.total, [&](int64_t c, float v) {
    return g.cross[1].gamma[c] * v + g.cross[1].beta[c];
  });
  SigmoidOfWeight(g);
  FilterBranches(g, [](const Branch &b, int64_t c, const float *) {
    return Affine{b.filter.gamma[c], b.filter.beta[c]};
  });
  ApplyGates(g);
}

// Takes branches and parameters, BN's as scale and shift. Gives the results.
template <int n>
void WeightingInference(Tensors t) {
  Block g(t, n);
  g.TakeResults(t), t.End();
  EachImage(g.batch, [&](int64_t i) { Infer(g.Image(i)); });
}

// From the gradient d.gates before the sigmoid to that of the means, in its place, and of the parameters.
void GateGradient(const Branch &b, int64_t batch, const Branch &d) {
  std::fill_n(d.weight1, b.hidden * b.channels, 0.0f), std::fill_n(d.bias1, b.hidden, 0.0f);
  std::fill_n(d.weight2, b.hidden * b.channels, 0.0f), std::fill_n(d.bias2, b.channels, 0.0f);
  std::vector<float> dh(b.hidden);
  for (int64_t n = 0; n < batch; ++n) {
    const float *m = b.means + n * b.channels, *h = b.hiddens + n * b.hidden;
    float *dg = d.gates + n * b.channels;
    std::fill(dh.begin(), dh.end(), 0.0f);
    for (int64_t c = 0; c < b.channels; ++c) {
      d.bias2[c] += dg[c];
      for (int64_t j = 0; j < b.hidden; ++j) {
        d.weight2[c * b.hidden + j] += dg[c] * h[j];
        dh[j] += dg[c] * b.weight2[c * b.hidden + j];
      }
    }
    std::fill_n(dg, b.channels, 0.0f);
    for (int64_t j = 0; j < b.hidden; ++j) {
      const float v = h[j] > 0 ? dh[j] : 0;
      d.bias1[j] += v;
      for (int64_t c = 0; c < b.channels; ++c) {
        d.weight1[j * b.channels + c] += v * m[c];
        dg[c] += v * b.weight1[j * b.channels + c];
      }
    }
  }
}

// From the gradient of x * (enlarged weight), in d.x, to those of both factors.
void SplitProduct(const Block &g, const Block &dg, const Branch &b, const Branch &d, int64_t n, int64_t c) {
  const int64_t pixels = b.plane.pixels(), width = b.plane.width, low = width / b.factor;
  const float *x = b.x + g.SecondHalf(b, n, c), *weight = g.weight + g.Low(b, n, c);
  float *dx = d.x + g.SecondHalf(b, n, c), *row = Scratch(4, width), *product = Scratch(5, pixels);
  for (int64_t k = 0; k < pixels; ++k) product[k] = dx[k] * x[k];
  SumBlocks(product, b.plane.height, width, b.factor, row, dg.weight + g.Low(b, n, c));
  for (int64_t y = 0; y < b.plane.height; ++y) {
    if (y % b.factor == 0) Enlarge(weight + y / b.factor * low, width, b.factor, row);
    for (int64_t k = 0; k < width; ++k) dx[y * width + k] *= row[k];
  }
}

// Between the two weightings, one channel: from d.y to d.x, without what comes through the pooling, and to dg.weight.
void FilterGradient(const Block &g, const Block &dg, const Branch &b, const Branch &d, int64_t c) {
  const int64_t pixels = b.plane.pixels();
  const ChannelGradient channel{b.filter.weight + c * 9, b.filter.gamma[c], b.statistics[c],
                                b.statistics[b.channels + c], d.filter.weight + c * 9, d.filter.gamma + c,
                                d.filter.beta + c};
  channel.Run(
      LaidChannel<Padded>(Padded(b.plane), g.batch, [&](int64_t n, float *to) { g.Lay(b, n, c, to); }), g.batch,
      [&](int64_t n) {
        const int64_t i = n * b.channels + c;
        return std::make_pair(d.y + g.Odd(b, n, c), Affine{b.gates[i], d.gates[i] / static_cast<float>(pixels)});
      },
      [&](int64_t n) { return d.x + g.SecondHalf(b, n, c); },
      [&](int64_t n) {
        SplitProduct(g, dg, b, d, n, c);
        std::copy_n(d.y + g.Even(b, n, c), pixels, d.x + g.FirstHalf(b, n, c));
      });
}

// Takes what WeightingTrain takes but for BN's running statistics, what it gives, and the gradients of its results.
// Gives those of branches and parameters.
template <int n>
void WeightingGradient(Tensors t) {
  Block g(t, n);
  g.TakeResults(t), g.TakeSaved(t);
  Block dg = g;  // from here on the gradients, each in the place of its tensor
  dg.TakeResults(t), dg.TakeInputs(t), t.End();
  const int64_t low = g.batch * g.low.pixels;
  g.weight = Scratch(6, 2 * low * g.total), dg.a1 = Scratch(7, low * g.hidden);
  dg.weight = dg.pooled = g.weight + low * g.total;
  Pool::Get().Run(g.batch * g.total, [&](int64_t i) {
    const Affine norm = TrainedNorm(g.cross[1].gamma, g.cross[1].beta, g.statistics2, i % g.total, g.total);
    float *to = g.weight + i * g.low.pixels;
    for (int64_t k = 0; k < g.low.pixels; ++k) to[k] = norm.scale * g.z2[i * g.low.pixels + k] + norm.shift;
    Sigmoid(to, g.low.pixels);
  });
  std::vector<float> gates(g.batch * g.total);
  for (Branch &d : dg.branches) d.gates = gates.data() + g.batch * d.offset;

  // Spatial weighting: sum(dy * y) is the gate times the gate's gradient.
  const auto each = [&](const auto &work) {
    g.Each([&](const Branch &b, int64_t c) { work(b, dg.branches[&b - g.branches.data()], c); });
  };
  each([&](const Branch &b, const Branch &d, int64_t c) {
    for (int64_t k = 0; k < g.batch; ++k) {
      const float *dy = d.y + g.Odd(b, k, c), *y = b.y + g.Odd(b, k, c);
      float sum = 0;
      for (int64_t j = 0; j < b.plane.pixels(); ++j) sum += dy[j] * y[j];
      d.gates[k * b.channels + c] = sum * (1 - b.gates[k * b.channels + c]);
    }
  });
  Pool::Get().Run(n, [&](int64_t b) { GateGradient(g.branches[b], g.batch, dg.branches[b]); });
  each([&](const Branch &b, const Branch &d, int64_t c) { FilterGradient(g, dg, b, d, c); });

  // Cross-resolution weighting
  Pool::Get().Run(g.batch * g.total, [&](int64_t i) {
    for (int64_t k = i * g.low.pixels; k < (i + 1) * g.low.pixels; ++k) dg.weight[k] *= g.weight[k] * (1 - g.weight[k]);
  });
  const ActivatedNormGradient<false> norm2(g.low, g.total, dg.weight, g.cross[1].gamma, g.cross[1].beta, g.z2,
                                           g.statistics2, dg.cross[1].gamma, dg.cross[1].beta);
  DenseGradient(g.a1, g.cross[1].weight, dg.a1, dg.cross[1].weight, g.low, g.hidden, g.total,
                [&](int64_t i, float *tile) { norm2.Pack(i, tile); });
  const ActivatedNormGradient<true> norm1(g.low, g.hidden, dg.a1, g.cross[0].gamma, g.cross[0].beta, g.z1,
                                          g.statistics1, dg.cross[0].gamma, dg.cross[0].beta);
  DenseGradient(g.pooled, g.cross[0].weight, dg.pooled, dg.cross[0].weight, g.low, g.total, g.hidden,
                [&](int64_t i, float *tile) { norm1.Pack(i, tile); });
  each([&](const Branch &b, const Branch &d, int64_t c) {
    const float share = 1.0f / static_cast<float>(b.factor * b.factor);
    float *row = Scratch(0, b.plane.width);
    for (int64_t k = 0; k < g.batch; ++k) {
      float *dx = d.x + g.SecondHalf(b, k, c);
      AddEnlarged(dx, dg.pooled + g.Low(b, k, c), b.plane.height, b.plane.width, b.factor, share, row, dx);
    }
  });
}

}  // namespace
}  // namespace litehrnet

// By the number of branches; of more, the smallest is smaller than plane.h can enlarge.
OPERATOR(Weighting2Train, WeightingTrain<2>)
OPERATOR(Weighting3Train, WeightingTrain<3>)
OPERATOR(Weighting4Train, WeightingTrain<4>)
OPERATOR(Weighting2Gradient, WeightingGradient<2>)
OPERATOR(Weighting3Gradient, WeightingGradient<3>)
OPERATOR(Weighting4Gradient, WeightingGradient<4>)
OPERATOR(Weighting2Inference, WeightingInference<2>)
OPERATOR(Weighting3Inference, WeightingInference<3>)
OPERATOR(Weighting4Inference, WeightingInference<4>)
