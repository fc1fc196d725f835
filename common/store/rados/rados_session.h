// The way to a site's pool: connects, reconnects, and knows whether the marker is the right one.
//
// A thread of its own connects (and waits for monitors that do not answer); callers never do. Every
// use of the pool goes through enter() or verify(), which give it out only with a verified marker.
// While the first attempt to connect is under way calls wait for it; afterwards they are answered
// away at once, with the reason, until the connection is there.
//
// Marker reads are shared: at most one is under way, and those who want one that started after
// they asked wait for the next.
//
// Thread safety: all methods from any thread. Callbacks run on the caller's thread, on librados'
// or on the session's; they must not block.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "common/store/rados/rados_pool.h"

namespace datacloud {

class RadosSession {
 public:
  using Ready = Callback<std::shared_ptr<RadosPool>>;

  explicit RadosSession(RadosOptions);
  // Waits for an attempt to connect that is under way (at most kConnectTimeoutMax).
  ~RadosSession();
  RadosSession(const RadosSession&) = delete;
  RadosSession& operator=(const RadosSession&) = delete;

  // Gives the pool when its marker was verified within kMarkerFresh, else after verifying it.
  void enter(Ready);
  // Gives the pool after a verification that began after this call.
  void verify(Ready);
  // An operation failed like that: looks whether the connection is of use still.
  void failed(const std::shared_ptr<RadosPool>&, int rc);
  // Answers everybody who waits with `timed_out`, gives up all operations and waits for their
  // answers; calls after this are answered so too.
  void close();

  const RadosOptions& options() const { return options_; }

 private:
  struct MarkerRead;

  void run();
  result<std::shared_ptr<RadosPool>> attempt(seconds timeout);
  void opened(result<std::shared_ptr<RadosPool>>);
  bool fresh() const;
  std::optional<Error> refusal() const;
  void start_marker_read(std::shared_ptr<RadosPool>);
  void marker_read(const MarkerRead&, int rc);
  void retire();
  static void answer(std::vector<Ready>& waiting, const result<std::shared_ptr<RadosPool>>&);

  const RadosOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  bool reopen_ = false;               // the pool may be another one by now
  bool reconnect_ = false;            // the connection is of no more use
  std::shared_ptr<RadosPool> pool_;   // null: not connected
  std::optional<Error> unreachable_;  // why; unset while the first attempt is under way
  MonotonicTime verified_{};          // when the last good marker read began
  bool verified_ever_ = false;        // on pool_
  bool reading_ = false;
  std::vector<Ready> waiting_;                       // for the marker read under way
  std::vector<Ready> next_;                          // for the next one, or the first connection
  std::vector<std::shared_ptr<RadosPool>> retired_;  // freed by the session's thread alone
  std::thread thread_;
};

}  // namespace datacloud
