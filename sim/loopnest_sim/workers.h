// Threads that share out the elements of one loop after the other.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <unistd.h>

// The caller of `run` works too. A thread looks for the next loop for a while before it sleeps, since
// a cycle of a simulation has several.
class Workers {
  public:
    explicit Workers(uint32_t threads) {
        for (uint32_t i = 1; i < threads; ++i) threads_.emplace_back([this] { work(); });
    }

    ~Workers() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    // Call `body` with 0 to `count - 1`, in any order.
    void run(uint32_t count, const std::function<void(uint32_t)>& body) {
        if (threads_.empty() || getpid() != process_) {  // a forked process has no such threads
            for (uint32_t i = 0; i < count; ++i) body(i);
            return;
        }
        body_ = &body;
        count_ = count;
        next_ = 0;
        working_ = static_cast<uint32_t>(threads_.size());
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            ++loop_;
        }
        wake_.notify_all();
        take();
        while (working_) std::this_thread::yield();
    }

  private:
    static constexpr uint32_t kLooks = 20000;  // of a thread, before it sleeps

    void take() {
        for (uint32_t i = next_++; i < count_; i = next_++) (*body_)(i);
    }

    void work() {
        uint64_t seen = 0;
        for (;;) {
            for (uint32_t look = 0; look < kLooks && loop_ == seen && !stop_; ++look)
                if (look % 64 == 63) std::this_thread::yield();
            if (loop_ == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return stop_ || loop_ != seen; });
            }
            if (stop_) return;
            seen = loop_;
            take();
            --working_;
        }
    }

    const pid_t process_ = getpid();
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<uint64_t> loop_{0};
    std::atomic<bool> stop_{false};
    std::atomic<uint32_t> next_{0}, working_{0};
    const std::function<void(uint32_t)>* body_ = nullptr;
    uint32_t count_ = 0;
};
