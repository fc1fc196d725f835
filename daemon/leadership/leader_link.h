// A standby's connection to the leader: says again and again who it is and how far, and notes the
// answers. docs/journal.md, "Standby and take-over", "Telling".
//
// Threading: all methods from any thread; the connection has one of its own. Destruction waits for
// what that does: at most as long as the leader may be silent.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/proto/journal.pb.h"
#include "common/rpc/rpc.h"
#include "daemon/journal/log_position.h"

namespace datacloud {

class LeaderLink {
 public:
  struct Options {
    pb::LeaderRequest self;  // name, addresses, order
    std::function<result<std::shared_ptr<const TlsContext>>()> tls;
    Duration silence = milliseconds(1500);  // then a connection is given up
    std::function<void()> news;             // something was noted; on the link's thread
  };
  // What was noted, counted from the beginning.
  struct Noted {
    uint64_t answers = 0;
    uint64_t refusals = 0;
    pb::LeaderReply last;  // answer
    std::string failure;   // why there is none now; empty: there is
  };

  explicit LeaderLink(Options);
  ~LeaderLink();
  LeaderLink(const LeaderLink&) = delete;
  LeaderLink& operator=(const LeaderLink&) = delete;

  // Where the leader is; none: there is nobody to talk to.
  void set_leader(std::vector<std::string> addresses);
  void set_position(const journal::LogPosition&);
  Noted noted() const;

 private:
  void run();
  bool wait(std::unique_lock<std::mutex>&, Duration);
  void talk(const std::vector<std::string>& addresses);
  void note_refusal();
  void note_failure(const std::string& text);
  bool moved(const std::vector<std::string>& addresses) const;
  pb::Request report() const;

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> addresses_;
  std::string position_;
  Noted noted_;
  bool stop_ = false;
  std::thread thread_;
};

// Whether nobody listens at any of these addresses. False: somebody does, or it cannot be told
// within a moment.
bool nobody_listens(const std::vector<std::string>& addresses);

}  // namespace datacloud
