// The client of the daemon's RPC, inside view (rpc.h has the outside).
//
// One I/O thread owns the connection: it connects, says hello, reads replies and runs every
// callback. Callers write their request straight to the socket when nothing is queued, so that a
// call costs no hop before the daemon sees it.
//
// Invariants: a request is in `pending_` from its submission until its reply, its deadline or
// the session's loss, and is answered exactly once (whoever asked for it learns after the deadline
// what became of it, from `late_`); the loss of the session fails only requests that the daemon may
// have executed and that must not be executed again; after a reconnect the pending ones are sent
// before any new one, in the order of their ids; nothing is sent before hello is answered and
// on_session has returned.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "common/net/byte_stream.h"
#include "common/rpc/rpc_dial.h"
#include "common/rpc/rpc_frame.h"
#include "common/rpc/rpc_session.h"

namespace datacloud {

class RpcSessionClient final : public RpcSession {
 public:
  explicit RpcSessionClient(Options);
  ~RpcSessionClient() override;

  // The first hello's answer, or why there is none.
  result<pb::HelloReply> start();

  using RpcClient::call;
  void call(pb::Request, std::function<void(result<pb::Reply>)>) override;
  void call_until_known(pb::Request, std::function<void(result<pb::Reply>)>,
                        std::function<void(result<pb::Reply>)> late) override;
  uint64_t session() const override;
  bool connected() const override;
  MonotonicTime lease_end() const override;
  Duration silence() const override;

 private:
  enum class State { down, hello_sent, up };
  struct Pending {
    SharedFrame frame;
    Callback callback;
    MonotonicTime sent;    // before the first sending
    Duration suspended{};  // time_suspended() then
    bool keepalive = false;
    bool repeatable = false;       // executed once more it does no harm, in any session
    bool maybe_delivered = false;  // the daemon may have got it
    Callback late;
  };
  using PendingMap = std::map<uint64_t, Pending>;

  // The I/O thread.
  void run();
  void poll_once();
  bool receive();  // false: the connection is broken
  bool handle(pb::Frame&);
  void handle_reply(pb::Reply);
  bool handle_hello(const pb::Reply&);
  void expire_overdue();
  void disconnect(const std::string& why);
  void fail(PendingMap, const Error&);
  void lose_late_answers();

  // Connecting (rpc_connect.cc).
  void connect_now();
  void take_dialled();
  void connect_failed(const Error&);
  result<std::unique_ptr<ByteStream>> connect_local() const;
  void adopt(std::unique_ptr<ByteStream>, bool remote);
  void end_silence();
  pb::HelloRequest make_hello();
  bool hello_refused(const Error&);
  Error unreachable() const;

  bool transmit(SharedFrame);  // with the lock held; false: the daemon has not got it
  PendingMap take_lost();      // with the lock held: what the loss of the session fails
  void wake() const;

  const Options options_;
  int wake_fd_ = -1;

  mutable std::mutex mutex_;
  std::condition_variable first_hello_done_;
  State state_ = State::down;
  std::unique_ptr<ByteStream> stream_;  // changed by the I/O thread only
  FrameWriter out_;
  PendingMap pending_;
  // Sent on this connection and not answered by their deadline; at most kRequestsInFlightMax.
  std::map<uint64_t, Callback> late_;
  uint64_t next_id_ = 1;
  uint64_t session_ = 0;
  MonotonicTime lease_end_{};
  Duration lease_suspended_{};             // time_suspended() when the lease was asked for
  MonotonicTime heard_ = monotonic_now();  // the last bytes from the daemon
  std::optional<result<pb::HelloReply>> first_hello_;
  std::string last_failure_;  // why there is no connection, for people
  bool stop_ = false;

  // I/O thread only.
  std::unique_ptr<Dial> dial_;  // while a connection over TLS is being made
  bool remote_ = false;         // the connection is over TLS
  bool unread_ = false;         // the stream may hold bytes that poll does not see
  Duration lease_{};            // of the session, as the daemon has said
  FrameReader reader_;
  bool session_lost_ = false;  // to be told once a new session is there
  uint64_t sequence_ = 0;      // the newest of the replies of this session
  MonotonicTime started_{};
  MonotonicTime hello_sent_{};
  Duration hello_suspended_{};
  MonotonicTime retry_at_{};
  Duration backoff_{};
  Duration refused_for_{};  // between attempts of a mount that the daemon turns away
  bool answered_ = false;   // somebody was there at the last attempt

  std::thread thread_;
};

}  // namespace datacloud
