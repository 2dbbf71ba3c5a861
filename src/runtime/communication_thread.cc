#include "runtime/communication_thread.h"

#include <utility>

namespace shardwise {

CommunicationThread::CommunicationThread() : thread_([this] { run(); }) {}

CommunicationThread::~CommunicationThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CommunicationThread::start(std::function<void()> task, int limit) {
  std::unique_lock lock(mutex_);
  const auto room = [&] {
    return failure_ || limit == 0 || tasks_.size() < static_cast<std::size_t>(limit);
  };
  changed_.wait(lock, room);
  throw_failure();
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

void CommunicationThread::wait_all() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || tasks_.empty(); });
  throw_failure();
}

void CommunicationThread::throw_failure() {
  if (failure_) {
    std::rethrow_exception(failure_);
  }
}

void CommunicationThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || (!tasks_.empty() && !failure_); });
    if (stop_) {
      return;
    }
    std::function<void()> task = std::move(tasks_.front());
    lock.unlock();
    std::exception_ptr failure;
    try {
      task();
    } catch (...) {
      failure = std::current_exception();
    }
    task = nullptr;  // its tensors are free before anybody is told
    lock.lock();
    failure_ = failure;
    tasks_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace shardwise
