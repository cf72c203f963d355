// The exchange between the branches of a stage module (`src.model.StageModule`): its tensors.
#pragma once
#include <vector>

#include "convolution.h"

namespace litehrnet {

constexpr int kBranches = 4;

// A convolution of a path, and what training knows of it: BN, whose gamma and beta are scale and shift here; values
// (N, outs, P), of a depthwise one the result, of a 1x1 one what goes into BN; BN of these as affine maps.
struct Unit : Convolution {
  Norm norm;
  float *values;
  std::vector<Affine> maps;
};

// Branches, outputs, and paths[i][j] from branch j to output i: depthwise and 1x1 convolutions in turn down to a smaller
// branch, one 1x1 convolution from there up.
struct Exchange {
  int n;
  Images axes[kBranches];
  float *x[kBranches], *y[kBranches];
  std::vector<Unit> paths[kBranches][kBranches];

  // Takes branches and, output by output and path by path, the parameters of the convolutions.
  Exchange(Tensors &t, int branches) : n(branches) {
    const Images smallest = t.Axes(n - 1);
    for (int b = 0; b < n; ++b) {
      axes[b] = {smallest.number, t.Axis(b, 1), smallest.height << (n - 1 - b), smallest.width << (n - 1 - b)};
    }
    TakeInputs(t);
  }

  void TakeInputs(Tensors &t) {
    for (int b = 0; b < n; ++b) x[b] = t.TakeImages(axes[b]);
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        const int64_t ins = axes[j].channels, outs = axes[i].channels;
        paths[i][j].clear();
        for (int step = j; step < i; ++step) {
          paths[i][j].push_back({TakeDepthwise(t, ins)});
          paths[i][j].push_back({TakeDense(t, ins, step + 1 == i ? outs : ins)});
        }
        if (j > i) paths[i][j].push_back({TakeDense(t, ins, outs)});
      }
    }
  }

  void TakeResults(Tensors &t) {
    for (int b = 0; b < n; ++b) y[b] = t.TakeImages(axes[b]);
  }

  // work(convolution, branch whose size its result has)
  template <typename F>
  void EachUnit(const F &work) {
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        for (size_t k = 0; k < paths[i][j].size(); ++k) work(paths[i][j][k], j > i ? j : j + 1 + static_cast<int>(k) / 2);
      }
    }
  }

  int64_t Pixels(int b) const { return axes[b].height * axes[b].width; }
  int64_t Size(int b) const { return axes[b].channels * Pixels(b); }  // of an image
  Plane PlaneOf(int b) const { return {axes[b].height, axes[b].width}; }
  Columns ColumnsOf(int b) const { return {axes[b].number, Pixels(b)}; }
};

}  // namespace litehrnet
