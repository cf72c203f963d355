// The exchange between the branches of a stage module in training as one operator, its gradient as another.
//
// BN takes the statistics of the batch, so a path goes convolution by convolution over all images. What follows a
// convolution as an affine map is applied where its values are read next; sums and their gradients are made plane by
// plane, and what several paths read of a branch they read while it is in a core's cache.
#include "dense_norm.h"
#include "fusion.h"

namespace litehrnet {
namespace {

// y (+)= factor * BN of a convolution's values, of one plane
template <bool add = true>
void AddNorm(const Unit &u, int64_t plane, int64_t c, int64_t pixels, float factor, float *y) {
  const float *from = u.values + plane * pixels, scale = factor * u.maps[c].scale, shift = factor * u.maps[c].shift;
  for (int64_t k = 0; k < pixels; ++k) y[k] = (add ? y[k] : 0) + scale * from[k] + shift;
}

// What training adds: BN's running statistics, and what is saved for the gradient.
struct Training : Exchange {
  Training(Tensors &t, int branches) : Exchange(t, branches) {}

  void TakeStatistics(Tensors &t) {
    int64_t units = 0;
    EachUnit([&](Unit &u, int) {
      u.norm.moving_mean = t.Take({u.outs}), u.norm.moving_variance = t.Take({u.outs}), ++units;
    });
    const float *momentum = t.Take({units});
    EachUnit([&](Unit &u, int) { u.norm.momentum = momentum++; });
  }

  void TakeSaved(Tensors &t) {
    TakeResults(t);
    Saved s = t.TakeSaved();
    EachUnit([&](Unit &u, int branch) {
      u.values = s.Take(Batch() * u.outs * Pixels(branch)), u.norm.saved = s.Take(2 * u.outs);
      u.norm.gamma = u.scale, u.norm.beta = u.shift;
      u.maps.resize(u.outs);
    });
    s.End();
  }

  int64_t Batch() const { return axes[0].number; }

  // One plane of what goes into output i's ReLU; of output 0's goes into the paths from branch 0, too.
  void Sum(int i, int64_t plane, int64_t c, float *sum) const {
    const int64_t pixels = Pixels(i), width = axes[i].width;
    const float *from = x[i] + plane * pixels;
    for (int64_t k = 0; k < pixels; ++k) sum[k] = i == 0 ? 2 * from[k] : from[k];
    for (int j = 0; j < i; ++j) AddNorm(paths[i][j].back(), plane, c, pixels, j == 0 ? 2 : 1, sum);
    float *row = Scratch(1, width + pixels), *low = nullptr, *next = row + width;
    for (int j = n - 1; j > i; --j) {
      const Images &size = axes[j];
      AddNorm<false>(paths[i][j][0], plane, c, Pixels(j), 1, next);
      if (low) AddEnlarged(next, low, size.height, size.width, 2, 1, row, next);
      low = next, next += Pixels(j);
    }
    if (low) AddEnlarged(sum, low, axes[i].height, width, 2, 1, row, sum);
  }
};

void Relu(const float *values, int64_t count, float *to) {
  for (int64_t k = 0; k < count; ++k) to[k] = values[k] < 0 ? 0 : values[k];
}

// work(plane, channel) for each plane of a branch.
template <typename F>
void EachPlane(const Images &axes, const F &work) {
  Pool::Get().Run(axes.number * axes.channels, [&](int64_t i) { work(i, i % axes.channels); });
}

// What a path's k-th convolution, a depthwise one, reads: BN and ReLU of the convolution before; the first of all paths
// from a branch read that branch, from branch 0 the sum of output 0: made again, it takes less memory and no longer.
class Source {
 public:
  Source(const Training &e, int i, int j, size_t k)
      : e_(e), j_(j), unit_(k ? &e.paths[i][j][k - 1] : nullptr), layout_(e.PlaneOf(j + static_cast<int>(k) / 2)) {}

  // y: takes a branch's tensor after ReLU, unless it is null.
  LaidChannel<Phases> Lay(int64_t c, float *y = nullptr) const {
    const int64_t pixels = layout_.plane.pixels();
    float *made = Scratch(4, pixels);
    return {layout_, e_.Batch(), [&](int64_t image, float *to) {
      const int64_t plane = image * e_.axes[j_].channels + c;
      if (unit_) {
        AddNorm<false>(*unit_, plane, c, pixels, 1, made);
        Relu(made, pixels, made);
      } else if (j_ == 0) {
        e_.Sum(0, plane, c, made);
      }
      const float *from = unit_ || j_ == 0 ? made : e_.x[j_] + plane * pixels;
      layout_.Lay(from, to);
      if (y) Relu(from, pixels, y + plane * pixels);
    }};
  }

 private:
  const Training &e_;
  int j_;
  const Unit *unit_;
  Phases layout_;
};

class Forward {
 public:
  explicit Forward(Training &e) : e_(e) {}

  void Run() {
    for (int i = 0; i < e_.n; ++i) {
      for (int j = i + 1; j < e_.n; ++j) Mix(e_.paths[i][j][0], e_.x[j], j);
    }
    for (int j = 0; j + 1 < e_.n; ++j) Down(j);
    for (int i = 1; i < e_.n; ++i) Add(i);
  }

 private:
  // 1x1 convolution of a tensor of branch b's size, and BN's statistics.
  void Mix(Unit &u, const float *x, int b) {
    const Columns columns = e_.ColumnsOf(b);
    Dense(x, u.weight, u.values, columns, u.ins, u.outs, [](int64_t, float v) { return v; });
    Pool::Get().Run(u.outs, [&](int64_t c) {
      u.maps[c] = u.norm.Train(c, u.outs, u.values + c * columns.pixels, columns.images, columns.pixels,
                               u.outs * columns.pixels);
    });
  }

  // Depthwise convolution and BN of one channel.
  void Filter(Unit &u, const LaidChannel<Phases> &laid, int64_t c) {
    TrainFilter(laid.layout(), e_.Batch(), u.outs, c, u.weight, u.norm, laid, u.values);
  }

  // All paths from branch j to smaller ones; output 0.
  void Down(int j) {
    const Source branch(e_, j + 1, j, 0);
    Pool::Get().Run(e_.axes[j].channels, [&](int64_t c) {
      const auto laid = branch.Lay(c, j == 0 ? e_.y[0] : nullptr);
      for (int i = j + 1; i < e_.n; ++i) Filter(e_.paths[i][j][0], laid, c);
    });
    for (int i = j + 1; i < e_.n; ++i) {
      auto &path = e_.paths[i][j];
      for (size_t k = 1; k < path.size(); k += 2) {
        if (k > 1) {
          const Source source(e_, i, j, k - 1);
          Pool::Get().Run(path[k - 1].outs, [&](int64_t c) { Filter(path[k - 1], source.Lay(c), c); });
        }
        Mix(path[k], path[k - 1].values, j + 1 + static_cast<int>(k) / 2);
      }
    }
  }

  void Add(int i) {
    const int64_t pixels = e_.Pixels(i);
    EachPlane(e_.axes[i], [&](int64_t plane, int64_t c) {
      float *y = e_.y[i] + plane * pixels;
      e_.Sum(i, plane, c, y);
      Relu(y, pixels, y);
    });
  }

  Training &e_;
};

// The gradients d, each in the place of its tensor.
class Backward {
 public:
  Backward(Training &e, Training &d) : e_(e), d_(d) {}

  void Run() {
    Start();
    for (int i = e_.n - 1; i > 0; --i) Up(i, sums_[i]);
    for (int j = e_.n - 2; j > 0; --j) Down(j);
    for (int i = 1; i < e_.n; ++i) Double(i, sums_[i]);  // paths from branch 0 count twice, and its own tensor
    Down(0);
    Up(0, d_.x[0]);
    Double(0, d_.x[0]);
  }

 private:
  int64_t Floats(int i, int b) const { return e_.Batch() * e_.axes[i].channels * e_.Pixels(b); }

  // Gradients of the sums, which are those of the branches' own tensors, too.
  void Start() {
    int64_t all = 0;
    for (int i = 1; i < e_.n; ++i) all += Floats(i, i);
    float *next = Scratch(5, all);
    sums_[0] = d_.x[0];
    for (int i = 1; i < e_.n; next += Floats(i, i), ++i) sums_[i] = next;
    for (int i = 0; i < e_.n; ++i) {
      const int64_t pixels = e_.Pixels(i);
      EachPlane(e_.axes[i], [&](int64_t plane, int64_t) {
        const float *y = e_.y[i] + plane * pixels, *dy = d_.y[i] + plane * pixels;
        float *dx = d_.x[i] + plane * pixels, *sum = sums_[i] + plane * pixels;
        for (int64_t k = 0; k < pixels; ++k) dx[k] = y[k] > 0 ? dy[k] : 0;
        if (i > 0) std::copy_n(dx, pixels, sum);
      });
    }
  }

  void Double(int i, float *values) const {
    EachPlane(e_.axes[i], [&](int64_t plane, int64_t) {
      float *to = values + plane * e_.Pixels(i);
      for (int64_t k = 0; k < e_.Pixels(i); ++k) to[k] *= 2;
    });
  }

  // Of a 1x1 convolution whose result has branch b's size.
  template <bool relu, bool add>
  void MixGradient(const Unit &u, const Unit &d, int b, const float *dy, const float *x, float *dx) const {
    const Columns columns = e_.ColumnsOf(b);
    const ActivatedNormGradient<relu> gradient(columns, u.outs, dy, u.scale, u.shift, u.values, u.norm.saved, d.scale,
                                               d.shift);
    DenseGradient<add>(x, u.weight, dx, d.weight, columns, u.ins, u.outs,
                       [&](int64_t i, float *tile) { gradient.Pack(i, tile); });
  }

  // Of one channel of a path's k-th convolution, a depthwise one; see ChannelGradient::Run.
  template <typename Target, typename After>
  void FilterGradient(int i, int j, size_t k, const LaidChannel<Phases> &laid, int64_t c, const float *dy,
                      const Target &dx, const After &after) const {
    const Unit &u = e_.paths[i][j][k], &d = d_.paths[i][j][k];
    const ChannelGradient channel{u.weight + c * 9, u.scale[c], u.norm.saved[c], u.norm.saved[u.outs + c],
                                  d.weight + c * 9, d.scale + c, d.shift + c};
    channel.Run(laid, e_.Batch(), [&](int64_t n) {
      return std::make_pair(dy + (n * u.outs + c) * laid.layout().pixels(), Affine{1, 0});
    }, dx, after);
  }

  // From the sum of output i back along the path from branch j to what its first convolution gave. `between` holds a
  // tensor of that size and one of a quarter.
  void Back(int i, int j, float *filtered, float *between) const {
    const auto &path = e_.paths[i][j], &d = d_.paths[i][j];
    const float *dy = sums_[i];
    for (size_t k = path.size() - 1; ; k -= 2) {
      const int b = j + 1 + static_cast<int>(k) / 2;
      float *dx = k == 1 ? filtered : between + Floats(j, j + 1);
      if (k + 1 < path.size()) {
        MixGradient<true, false>(path[k], d[k], b, dy, path[k - 1].values, dx);
      } else {
        MixGradient<false, false>(path[k], d[k], b, dy, path[k - 1].values, dx);
      }
      if (k == 1) return;
      const Source source(e_, i, j, k - 1);
      Pool::Get().Run(path[k - 1].outs, [&](int64_t c) {
        FilterGradient(i, j, k - 1, source.Lay(c), c, dx, [&](int64_t n) {
          return between + (n * path[k - 1].outs + c) * e_.Pixels(b - 1);
        }, [](int64_t) {});
      });
      dy = between;
    }
  }

  // All paths from branch j to smaller ones.
  void Down(int j) const {
    const int64_t size = Floats(j, j + 1), channels = e_.axes[j].channels, pixels = e_.Pixels(j);
    float *filtered = Scratch(6, (e_.n - j + 1) * size);
    for (int i = j + 1; i < e_.n; ++i) Back(i, j, filtered + (i - j - 1) * size, filtered + (e_.n - j - 1) * size);
    const Source branch(e_, j + 1, j, 0);
    Pool::Get().Run(channels, [&](int64_t c) {
      const auto laid = branch.Lay(c);
      float *dx = Scratch(4, pixels);
      for (int i = j + 1; i < e_.n; ++i) {
        FilterGradient(i, j, 0, laid, c, filtered + (i - j - 1) * size, [&](int64_t) { return dx; }, [&](int64_t n) {
          float *to = d_.x[j] + (n * channels + c) * pixels;
          for (int64_t k = 0; k < pixels; ++k) to[k] += dx[k];
        });
      }
    });
  }

  // All paths from smaller branches to i, from the gradient of its sum.
  void Up(int i, const float *dsum) const {
    int64_t all = 0;
    for (int j = i + 1; j < e_.n; ++j) all += Floats(i, j);
    float *dy = Scratch(7, all);
    for (int j = i + 1; j < e_.n; dsum = dy, dy += Floats(i, j), ++j) {
      const Images &larger = e_.axes[j - 1];
      Pool::Get().Run(e_.Batch() * e_.axes[i].channels, [&](int64_t plane) {
        SumBlocks(dsum + plane * e_.Pixels(j - 1), larger.height, larger.width, 2, Scratch(0, larger.width),
                  dy + plane * e_.Pixels(j));
      });
      MixGradient<false, true>(e_.paths[i][j][0], d_.paths[i][j][0], j, dy, e_.x[j], d_.x[j]);
    }
  }

  Training &e_, &d_;
  float *sums_[kBranches];
};

// Takes branches and parameters; BN's moving means and variances, unit by unit; the momenta. Gives the results and what
// the gradient needs.
template <int n>
void FusionTrain(Tensors t) {
  Training exchange(t, n);
  exchange.TakeStatistics(t), exchange.TakeSaved(t), t.End();
  Forward(exchange).Run();
}

// Takes what FusionTrain takes but for BN's running statistics, what it gives, and the gradients of its results. Gives
// those of branches and parameters.
template <int n>
void FusionGradient(Tensors t) {
  Training exchange(t, n);
  exchange.TakeSaved(t);
  exchange.EachUnit([](Unit &u, int) {
    for (int64_t c = 0; c < u.outs; ++c) u.maps[c] = TrainedNorm(u.scale, u.shift, u.norm.saved, c, u.outs);
  });
  Training gradients = exchange;
  gradients.TakeResults(t), gradients.TakeInputs(t), t.End();
  Backward(exchange, gradients).Run();
}

}  // namespace
}  // namespace litehrnet

OPERATOR(Fusion2Train, FusionTrain<2>)
OPERATOR(Fusion3Train, FusionTrain<3>)
OPERATOR(Fusion4Train, FusionTrain<4>)
OPERATOR(Fusion2Gradient, FusionGradient<2>)
OPERATOR(Fusion3Gradient, FusionGradient<3>)
OPERATOR(Fusion4Gradient, FusionGradient<4>)
