// Shared by the libraries of the double: calls are counted by name, and whatever is not computed ends the process.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

// A counter of the trace; made once for each name and never freed, since the trace is written after all destructors.
struct Counter {
  explicit Counter(const std::string &name);
  void Add() { __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); }
  std::string name;
  unsigned long calls = 0;
  Counter *next;
};

// Counts a call of the function it stands in. `LAUNCH` marks what puts work on the device, `CALL` all else.
#define CALL() do { static Counter *counter = new Counter(std::string("call ") + __func__); counter->Add(); } while (0)
#define LAUNCH() do { static Counter *counter = new Counter(std::string("launch ") + __PRETTY_FUNCTION__); counter->Add(); } while (0)
// Counts a call under a name made at run time.
void CountNamed(const std::string &name);

extern "C" [[noreturn]] void gpu_double_refuse(const char *what);

// CUDA's type of the same name (cuda_fp16.h), so that templates on it get the same symbols.
struct __half {
  _Float16 value;
  __half() = default;
  __half(float x) : value(x) {}
  operator float() const { return value; }
};
