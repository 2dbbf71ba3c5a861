// A thread that runs reductions in the order in which they were handed to it, while the compute
// thread goes on.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace shardwise {

class CommunicationThread {
 public:
  CommunicationThread();
  // Drops what has not begun.
  ~CommunicationThread();
  CommunicationThread(const CommunicationThread&) = delete;
  CommunicationThread& operator=(const CommunicationThread&) = delete;

  // Returns at once, but waits while `limit` tasks are unfinished (0: no limit): tasks hold memory.
  // Throws what an earlier task threw; after that no task runs any more.
  void start(std::function<void()> task, int limit = 0);
  // Returns when all tasks are done; throws what one of them threw.
  void wait_all();

 private:
  void run();
  void throw_failure();  // mutex_ held

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;  // the first one is running
  bool stop_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace shardwise
