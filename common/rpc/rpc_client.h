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
// on_session has returned. After a restart of the daemon come first the requests that are kept
// (kept_requests.h), then a sync, which tells the daemon that these were all, then the pending
// ones.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/net/byte_stream.h"
#include "common/rpc/kept_requests.h"
#include "common/rpc/known_addresses.h"
#include "common/rpc/rpc_dial.h"
#include "common/rpc/rpc_frame.h"
#include "common/rpc/rpc_session.h"

namespace datacloud {

class RpcSessionClient final : public RpcSession {
 public:
  explicit RpcSessionClient(Options, Keeping = {});
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
  uint32_t protocol() const override;

 private:
  enum class State { down, hello_sent, resending, up };
  struct Pending {
    SharedFrame frame;
    Callback callback;
    MonotonicTime sent;    // before the first sending
    Duration suspended{};  // time_suspended() then
    bool keepalive = false;
    AfterLoss after_loss = AfterLoss::fails;
    bool change = false;           // kept when it was answered
    bool may_open = false;         // a create that may find the file: then nothing is changed
    InodeId ino = 0;               // of a create: the number that it brings
    bool maybe_delivered = false;  // the daemon may have got it
    bool held_back = false;        // until there is room to keep it
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
  void disconnect(const std::string& why, bool silent = false);
  void fail(PendingMap, const Error&);
  void lose_late_answers();

  // Keeping (rpc_keep.cc). With the lock held, unless said otherwise.
  void count(const Pending&);  // that is pending from now on
  void discount(const Pending&);
  void let_go(Pending&);
  void note_committed(uint64_t sequence);
  void keep(uint64_t id, const Pending&, const pb::Reply&);
  void send_kept();
  void go_up();
  void send_sync();
  void get_room();
  void send_held_back();
  bool redone(pb::Reply&);                          // without the lock; false: it waits for none
  void lose_kept(KeptRequests::Map, const Error&);  // without the lock
  void tell_redone(const SharedFrame&, result<pb::Reply>);  // without the lock
  bool has_room() const { return kept_.bytes() + unanswered_bytes_ < keeping_.bytes_max; }

  // Connecting (rpc_connect.cc).
  void connect_now();
  void take_dialled();
  void connect_failed(const Error&);
  result<std::unique_ptr<ByteStream>> connect_local(const std::vector<std::string>& addresses);
  std::vector<std::string> candidates() const;
  void pass_over();
  void nobody_leads();
  result<void> check_history(const pb::HelloReply&) const;
  void note_position(const std::string&);  // with the lock held
  void adopt(std::unique_ptr<ByteStream>, bool remote);
  void end_silence();
  pb::HelloRequest make_hello();
  bool hello_refused(const Error&);
  Error unreachable() const;

  uint64_t unsettled() const;  // with the lock held
  bool transmit(SharedFrame);  // with the lock held; false: the daemon has not got it
  // With the lock held: what the loss of the session fails. `known`: the new session knows the
  // answers of the former one.
  PendingMap take_lost(bool known);
  void wake() const;

  const Options options_;
  std::string secret_ = options_.session.secret();  // of the I/O thread
  const Keeping keeping_;
  const std::shared_ptr<KnownAddresses> known_;
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
  KeptRequests kept_;
  uint64_t committed_ = 0;  // the newest transaction known to be durable
  uint64_t start_ = 0;      // of the daemon that was spoken to last
  uint32_t protocol_ = kProtocolOldest;
  size_t unanswered_bytes_ = 0;  // of changes that are sent
  size_t held_back_ = 0;         // among the pending
  bool syncing_ = false;         // a sync was sent to get room
  MonotonicTime sync_again_{};   // not before
  bool mark_due_ = false;        // the daemon waits for the end of what is sent again
  MonotonicTime lease_end_{};
  Duration lease_suspended_{};             // time_suspended() when the lease was asked for
  MonotonicTime heard_ = monotonic_now();  // the last bytes from the daemon
  std::optional<result<pb::HelloReply>> first_hello_;
  std::string last_failure_;  // why there is no connection, for people
  std::string position_;      // the newest committed entry of the journal that was told
  bool stop_ = false;

  // I/O thread only.
  std::unique_ptr<Dial> dial_;  // while a connection over TLS is being made
  bool remote_ = false;         // the connection is over TLS
  std::string address_;         // that it goes to
  std::string lead_from_;       // the address that answered the last hello well
  // That did not lead, or said nothing, since the last time all were tried.
  std::set<std::string> passed_over_;
  bool several_ = false;  // more than one address is known
  Duration hello_patience_{};
  MonotonicTime down_since_ = monotonic_now();
  bool unread_ = false;  // the stream may hold bytes that poll does not see
  Duration lease_{};     // of the session, as the daemon has said
  FrameReader reader_;
  bool session_lost_ = false;  // to be told once a new session is there
  uint32_t offer_ = 0;         // the newest protocol of the next hello; 0: the newest of all
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
