// The exchange between the branches of a stage module (`src.model.StageModule`): its sums and their gradients, and all of
// it as one operator for inference.
#include <algorithm>
#include <utility>
#include <vector>

#include "convolution.h"

namespace litehrnet {
namespace {

Images EnlargedBy2(const Images &a) { return {a.number, a.channels, 2 * a.height, 2 * a.width}; }

// y = high + low enlarged by 2, of `planes`; y may be high itself.
void AddPlanes(const float *high, const float *low, int64_t planes, int64_t height, int64_t width, float *y) {
  const int64_t size = height * width;
  Pool::Get().Run(planes, [&](int64_t i) {
    AddEnlarged(high + i * size, low + i * size / 4, height, width, 2, 1, Scratch(0, width), y + i * size);
  });
}

void AddEnlargedBy2(Tensors t) {
  const Images small = t.Axes(1), large = EnlargedBy2(small);
  const float *high = t.TakeImages(large), *low = t.TakeImages(small);
  float *y = t.TakeImages(large);
  t.End();
  AddPlanes(high, low, large.number * large.channels, large.height, large.width, y);
}

// The gradient of AddEnlarged at low: sums of blocks of 2 x 2.
void SumBlocksOf2(Tensors t) {
  const Images small = t.Axes(1), large = EnlargedBy2(small);
  const float *d = t.TakeImages(large);
  float *sums = t.TakeImages(small);
  t.End();
  const int64_t size = large.height * large.width;
  Pool::Get().Run(small.number * small.channels, [&](int64_t i) {
    SumBlocks(d + i * size, large.height, large.width, 2, Scratch(0, large.width), sums + i * size / 4);
  });
}

// The tensors of a sum: as many of full size as the branch's number + 1, perhaps one of half the size.
struct Terms {
  const float *full[4], *low;
};

// y = relu(2 * first + the others + low enlarged by 2) of `planes`; `sum`, where there is one, what goes into the ReLU.
template <int terms, bool enlarge>
void Sum(const Terms &x, int64_t planes, int64_t height, int64_t width, float *sum, float *y) {
  Pool::Get().Run(planes, [&](int64_t i) {
    float *row = Scratch(0, width);
    for (int64_t r = 0; r < height; ++r) {
      const int64_t at = (i * height + r) * width;
      if (enlarge && r % 2 == 0) Enlarge(x.low + (i * height + r) / 2 * (width / 2), width, 2, row);
      for (int64_t k = 0; k < width; ++k) {
        float v = 2 * x.full[0][at + k];
        for (int j = 1; j < terms; ++j) v += x.full[j][at + k];
        if (enlarge) v += row[k];
        if (terms == 1) sum[at + k] = v;
        y[at + k] = v < 0 ? 0 : v;
      }
    }
  });
}

template <int terms, bool enlarge>
void SumBranches(Tensors t) {
  const Images in = enlarge ? EnlargedBy2(t.Axes(terms)) : t.Axes(0);
  Terms x;
  for (int j = 0; j < terms; ++j) x.full[j] = t.TakeImages(in);
  if (enlarge) x.low = t.TakeImages({in.number, in.channels, in.height / 2, in.width / 2});
  float *sum = terms == 1 ? t.TakeImages(in) : nullptr, *y = t.TakeImages(in);
  t.End();
  Sum<terms, enlarge>(x, in.number * in.channels, in.height, in.width, sum, y);
}

// From what SumBranches gave and its gradients to those of the first term, of each other one, and of the last one.
template <bool single, bool enlarge>
void SumBranchesGradient(Tensors t) {
  const Images in = enlarge ? EnlargedBy2(t.Axes(4)) : t.Axes(0);
  const int64_t pixels = in.height * in.width;
  const float *sum = t.TakeImages(in), *dsum = single ? t.TakeImages(in) : nullptr, *dy = t.TakeImages(in);
  float *twice = t.TakeImages(in), *once = single ? nullptr : t.TakeImages(in);
  float *dlow = enlarge ? t.TakeImages({in.number, in.channels, in.height / 2, in.width / 2}) : nullptr;
  t.End();
  Pool::Get().Run(in.number * in.channels, [&](int64_t i) {
    const int64_t at = i * pixels;
    float *d = single ? Scratch(1, pixels) : once + at;
    for (int64_t k = 0; k < pixels; ++k) {
      d[k] = (single ? dsum[at + k] : 0) + (sum[at + k] > 0 ? dy[at + k] : 0);
      twice[at + k] = 2 * d[k];
    }
    if (enlarge) SumBlocks(d, in.height, in.width, 2, Scratch(0, in.width), dlow + at / 4);
  });
}

// Takes branches and, output by output and path by path, the parameters of the convolutions; gives the outputs.
template <int n>
class Fusion {
 public:
  explicit Fusion(Tensors &t) {
    const Images smallest = t.Axes(n - 1);
    for (int b = 0; b < n; ++b) {
      axes_[b] = {smallest.number, t.Axis(b, 1), smallest.height << (n - 1 - b), smallest.width << (n - 1 - b)};
    }
    for (int b = 0; b < n; ++b) x_[b] = t.TakeImages(axes_[b]);
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        const int64_t ins = axes_[j].channels, outs = axes_[i].channels;
        for (int step = j; step < i; ++step) {
          paths_[i][j].push_back(TakeDepthwise(t, ins));
          paths_[i][j].push_back(TakeDense(t, ins, step + 1 == i ? outs : ins));
        }
        if (j > i) paths_[i][j].push_back(TakeDense(t, ins, outs));
      }
    }
    for (int b = 0; b < n; ++b) y_[b] = t.TakeImages(axes_[b]);
    t.End();
  }

  void Run() const {
    EachImage(axes_[0].number, [&](int64_t image) { Infer(image); });
  }

 private:
  int64_t Pixels(int b) const { return axes_[b].height * axes_[b].width; }
  int64_t Size(int b) const { return axes_[b].channels * Pixels(b); }
  const float *Input(int b, int64_t image) const { return x_[b] + image * Size(b); }

  // y = branch j's tensor after the path to the smaller branch i
  void Down(int i, int j, const float *x, float *y) const {
    const auto &path = paths_[i][j];
    const int64_t size = axes_[j].channels * Pixels(j + 1);
    float *filtered = Scratch(6, size), *between = Scratch(7, size);
    for (int b = j; b < i; ++b) {
      float *to = b + 1 == i ? y : between;
      Depthwise<2>(path[2 * (b - j)], x, 1, Plane(axes_[b].height, axes_[b].width), filtered);
      Pointwise(path[2 * (b - j) + 1], filtered, {1, Pixels(b + 1)}, b + 1 < i, to);
      x = to;
    }
  }

  // The sum of the paths from smaller branches to i, in the size of the next one: in one of the two buffers.
  const float *Up(int i, int64_t image, float *low, float *high) const {
    for (int j = n - 1; j > i; --j) {
      std::swap(low, high);
      Pointwise(paths_[i][j][0], Input(j, image), {1, Pixels(j)}, false, low);
      if (j < n - 1) AddPlanes(low, high, axes_[i].channels, axes_[j].height, axes_[j].width, low);
    }
    return low;
  }

  void Add(int i, const Terms &terms, float *sum, float *y) const {
    static constexpr decltype(&Sum<1, true>) kInner[] = {Sum<1, true>, Sum<2, true>, Sum<3, true>},
                                             kLast[] = {nullptr, Sum<2, false>, Sum<3, false>, Sum<4, false>};
    (i < n - 1 ? kInner : kLast)[i](terms, axes_[i].channels, axes_[i].height, axes_[i].width, sum, y);
  }

  void Infer(int64_t image) const {
    int64_t largest = 0;
    for (int b = 0; b < n; ++b) largest = std::max(largest, Size(b));
    float *first = Scratch(5, 6 * largest), *low = first + largest, *high = low + largest, *down = high + largest;
    for (int i = 0; i < n; ++i) {
      Terms terms{{Input(0, image)}, nullptr};
      for (int j = 0; j < i; ++j) {
        float *to = down + j * largest;
        Down(i, j, j == 0 ? first : Input(j, image), to);
        terms.full[j == 0 ? 0 : j + 1] = to;
      }
      if (i > 0) terms.full[1] = Input(i, image);
      if (i < n - 1) terms.low = Up(i, image, low, high);
      Add(i, terms, first, y_[i] + image * Size(i));
    }
  }

  Images axes_[n];
  const float *x_[n];
  float *y_[n];
  std::vector<Convolution> paths_[n][n];
};

template <int n>
void FusionInference(Tensors t) {
  Fusion<n>(t).Run();
}

}  // namespace
}  // namespace litehrnet

OPERATOR(AddEnlarged, AddEnlargedBy2)
OPERATOR(SumBlocks, SumBlocksOf2)
// By the number of tensors of full size.
OPERATOR(Sum1Enlarged, SumBranches<1, true>)
OPERATOR(Sum2, SumBranches<2, false>)
OPERATOR(Sum2Enlarged, SumBranches<2, true>)
OPERATOR(Sum3, SumBranches<3, false>)
OPERATOR(Sum3Enlarged, SumBranches<3, true>)
OPERATOR(Sum4, SumBranches<4, false>)
OPERATOR(FirstEnlargedGradient, SumBranchesGradient<true, true>)
OPERATOR(SumGradient, SumBranchesGradient<false, false>)
OPERATOR(SumEnlargedGradient, SumBranchesGradient<false, true>)
OPERATOR(Fusion2Inference, FusionInference<2>)
OPERATOR(Fusion3Inference, FusionInference<3>)
OPERATOR(Fusion4Inference, FusionInference<4>)
