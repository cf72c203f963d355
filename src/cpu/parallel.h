// Threads and scratch memory of the kernels.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace litehrnet {

// A pool that sleeps between operators. OpenMP's threads spin there, against MindSpore's own.
class Pool {
 public:
  static Pool &Get() {
    static Pool *pool = new Pool;  // never destroyed: its threads may outlive main()
    return *pool;
  }

  void Resize(int threads) {
    std::lock_guard<std::mutex> one_caller(caller_);
    Stop();
    Start(threads);
  }

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // task(i, worker) for i in [0, count), whichever thread is free; returns when all are done.
  void Run(int64_t count, const std::function<void(int64_t, int)> &task) {
    if (threads_.empty() || count <= 1) {
      for (int64_t i = 0; i < count; ++i) task(i, 0);
      return;
    }
    std::lock_guard<std::mutex> one_caller(caller_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task, count_ = count, next_ = 0, busy_ = static_cast<int>(threads_.size());
      ++round_;
    }
    wake_.notify_all();
    Work(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  Pool() { Start(static_cast<int>(std::thread::hardware_concurrency())); }

  void Start(int threads) {
    stop_ = false;
    for (int worker = 1; worker < threads; ++worker) {
      threads_.emplace_back([this, worker, round = round_]() mutable {
        std::unique_lock<std::mutex> lock(mutex_);
        while (true) {
          wake_.wait(lock, [&] { return stop_ || round_ != round; });
          if (stop_) return;
          round = round_;
          lock.unlock();
          Work(worker);
          lock.lock();
          if (--busy_ == 0) done_.notify_one();
        }
      });
    }
  }

  void Stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto &thread : threads_) thread.join();
    threads_.clear();
  }

  void Work(int worker) {
    for (int64_t i; (i = next_.fetch_add(1)) < count_;) (*task_)(i, worker);
  }

  std::vector<std::thread> threads_;
  std::mutex caller_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int64_t, int)> *task_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  int busy_ = 0;
  uint64_t round_ = 0;
  bool stop_ = false;
};

// Scratch memory of one thread that is kept from call to call, for fresh pages cost more than the work on them.
// Slots are independent; the contents of a slot last until its next use.
inline float *Scratch(int slot, int64_t floats) {
  struct Slot {
    std::unique_ptr<float, decltype(&std::free)> data{nullptr, &std::free};
    int64_t size = 0;
  };
  thread_local Slot slots[8];
  Slot &s = slots[slot];
  if (s.size < floats) {
    s.data.reset(static_cast<float *>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
    s.size = floats;
  }
  return s.data.get();
}

}  // namespace litehrnet
