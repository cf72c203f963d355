// The exchange between the branches of a stage module in training as one operator, its gradient as another.
//
// BN takes the statistics of the batch, so a path goes convolution by convolution over all images. What follows a
// convolution as an affine map is applied where its values are read next; sums and their gradients are made plane by
// plane, and what several paths read of a branch they read while it is in a core's cache.
#include "dense_norm.h"
#include "fusion.h"

namespace litehrnet {
namespace {

// What training adds: BN's running statistics, and what is saved for the gradient.
struct Training : Exchange {
  float *first;  // what goes into output 0's ReLU, and into the paths from branch 0

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
    first = s.Take(Batch() * Size(0));
    EachUnit([&](Unit &u, int branch) {
      u.values = s.Take(Batch() * u.outs * Pixels(branch)), u.norm.saved = s.Take(2 * u.outs);
      u.norm.gamma = u.scale, u.norm.beta = u.shift;
      u.maps.resize(u.outs);
    });
    s.End();
  }

  int64_t Batch() const { return axes[0].number; }
  const float *Source(int j) const { return j == 0 ? first : x[j]; }
};

// work(plane, channel) for each plane of a branch.
template <typename F>
void EachPlane(const Images &axes, const F &work) {
  Pool::Get().Run(axes.number * axes.channels, [&](int64_t i) { work(i, i % axes.channels); });
}

// Pads the planes that a path's k-th convolution, a depthwise one, reads: of a branch, or of BN and ReLU of the one before.
class Padding {
 public:
  Padding(const Training &e, int i, int j, size_t k)
      : plane_(e.PlaneOf(j + static_cast<int>(k) / 2)), channels_(e.axes[j].channels),
        unit_(k ? &e.paths[i][j][k - 1] : nullptr), x_(k ? unit_->values : e.Source(j)) {}

  void operator()(int64_t image, int64_t channel, float *padded) const {
    const float *from = x_ + (image * channels_ + channel) * plane_.pixels();
    if (unit_) {
      float *active = Scratch(4, plane_.pixels());
      const Affine map = unit_->maps[channel];
      for (int64_t k = 0; k < plane_.pixels(); ++k) {
        const float v = map.scale * from[k] + map.shift;
        active[k] = v < 0 ? 0 : v;
      }
      from = active;
    }
    plane_.Pad(from, padded);
  }

  const Plane &plane() const { return plane_; }

 private:
  Plane plane_;
  int64_t channels_;
  const Unit *unit_;
  const float *x_;
};

class Forward {
 public:
  explicit Forward(Training &e) : e_(e) {}

  void Run() {
    for (int i = 0; i < e_.n; ++i) {
      for (int j = i + 1; j < e_.n; ++j) Mix(e_.paths[i][j][0], e_.x[j], j);
    }
    Add(0);
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
  void Filter(Unit &u, const Padding &padding, int64_t c) {
    TrainFilter<2>(padding.plane(), e_.Batch(), u.outs, c, u.weight, u.norm,
                   [&](int64_t n, float *padded) { padding(n, c, padded); }, u.values);
  }

  // All paths from branch j to smaller ones.
  void Down(int j) {
    Pool::Get().Run(e_.axes[j].channels, [&](int64_t c) {
      for (int i = j + 1; i < e_.n; ++i) Filter(e_.paths[i][j][0], Padding(e_, i, j, 0), c);
    });
    for (int i = j + 1; i < e_.n; ++i) {
      auto &path = e_.paths[i][j];
      for (size_t k = 1; k < path.size(); k += 2) {
        if (k > 1) {
          const Padding padding(e_, i, j, k - 1);
          Pool::Get().Run(path[k - 1].outs, [&](int64_t c) { Filter(path[k - 1], padding, c); });
        }
        Mix(path[k], path[k - 1].values, j + 1 + static_cast<int>(k) / 2);
      }
    }
  }

  // y (+)= factor * BN of a path's last values
  static void AddPath(const Unit &u, int64_t plane, int64_t c, int64_t pixels, float factor, float *y) {
    const float *from = u.values + plane * pixels, scale = factor * u.maps[c].scale, shift = factor * u.maps[c].shift;
    for (int64_t k = 0; k < pixels; ++k) y[k] += scale * from[k] + shift;
  }

  // Output i.
  void Add(int i) {
    const int64_t pixels = e_.Pixels(i);
    EachPlane(e_.axes[i], [&](int64_t plane, int64_t c) {
      float *y = (i == 0 ? e_.first : e_.y[i]) + plane * pixels, *row = Scratch(0, e_.axes[i].width);
      const float *x = e_.x[i] + plane * pixels;
      for (int64_t k = 0; k < pixels; ++k) y[k] = i == 0 ? 2 * x[k] : x[k];
      for (int j = 0; j < i; ++j) AddPath(e_.paths[i][j].back(), plane, c, pixels, j == 0 ? 2 : 1, y);
      float *low = nullptr;
      for (int j = e_.n - 1; j > i; --j) {
        float *sum = Scratch(1 + j % 2, e_.Pixels(j));
        std::fill_n(sum, e_.Pixels(j), 0.0f);
        AddPath(e_.paths[i][j][0], plane, c, e_.Pixels(j), 1, sum);
        if (low) AddEnlarged(sum, low, e_.axes[j].height, e_.axes[j].width, 2, 1, row, sum);
        low = sum;
      }
      if (low) AddEnlarged(y, low, e_.axes[i].height, e_.axes[i].width, 2, 1, row, y);
      float *active = e_.y[i] + plane * pixels;
      for (int64_t k = 0; k < pixels; ++k) active[k] = y[k] < 0 ? 0 : y[k];
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
  void FilterGradient(int i, int j, size_t k, int64_t c, const float *dy, const Target &dx, const After &after) const {
    const Unit &u = e_.paths[i][j][k], &d = d_.paths[i][j][k];
    const Padding padding(e_, i, j, k);
    const ChannelGradient channel{u.weight + c * 9, u.scale[c], u.norm.saved[c], u.norm.saved[u.outs + c],
                                  d.weight + c * 9, d.scale + c, d.shift + c};
    channel.Run<2>(
        padding.plane(), e_.Batch(), [&](int64_t n, float *padded) { padding(n, c, padded); },
        [&](int64_t n) {
          return std::make_pair(dy + (n * u.outs + c) * padding.plane().Pixels(2), Affine{1, 0});
        },
        dx, after);
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
      Pool::Get().Run(path[k - 1].outs, [&](int64_t c) {
        FilterGradient(i, j, k - 1, c, dx, [&](int64_t n) {
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
    Pool::Get().Run(channels, [&](int64_t c) {
      float *dx = Scratch(4, pixels);
      for (int i = j + 1; i < e_.n; ++i) {
        FilterGradient(i, j, 0, c, filtered + (i - j - 1) * size, [&](int64_t) { return dx; }, [&](int64_t n) {
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
