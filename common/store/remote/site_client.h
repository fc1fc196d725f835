// The client's end of a connection to the server of a site: one thread that connects, sends,
// receives and answers, and connects anew (remote_store.h says how, and what the bounds are).
//
// Invariants: a call is in exactly one of queue_ and under_way_ until it is answered, once; only
// the thread touches the connection and under_way_; callers touch queue_ under the mutex.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/rpc/rpc_dial.h"
#include "common/store/remote/remote_store.h"
#include "common/store/remote/site_frame.h"
#include "common/store/remote/site_window.h"

namespace datacloud {

using SiteAnswer = SiteFrameReader::Whole;

// A request, and what becomes of it.
struct SiteCall {
  pb::StoreRequest request;
  std::vector<ByteView> parts;
  std::shared_ptr<const void> owner;
  uint64_t bytes = 0;  // of the parts and of the answer, at most
  MonotonicTime deadline;
  bool changes = false;  // asking twice is not asking once
  bool repeated = false;
  std::vector<uint64_t> answer_max;  // of each segment; more are not taken
  std::vector<uint64_t> spaces;      // in the window: where they may come
  std::optional<uint64_t> room;      // taken of the window
  Callback<SiteAnswer> done;
};

class SiteClient final : private SiteLink::Owner {
 public:
  explicit SiteClient(RemoteStoreOptions options);
  // Answers what is left, after at most options.farewell_max.
  ~SiteClient() override;

  // From any thread. `done` runs once, on the client's thread or within this call.
  void start(std::unique_ptr<SiteCall>);
  const std::string& address() const { return options_.address; }

  // An answer that was not asked for.
  static Error strange();

 private:
  enum class State { idle, dialing, greeting, connected };

  void wake();
  void answer(std::unique_ptr<SiteCall>, result<SiteAnswer>);
  void run();
  bool step();
  void wait(int timeout_ms);
  void drop_late();
  bool nothing_queued();
  bool begin();
  bool take_dialed();
  void greet();
  void go_local(const pb::StoreLocal&);
  bool exchange();
  bool send_queued();
  bool place(SiteCall&, pb::StoreFrame&);
  void fetch(SiteCall&, SiteAnswer&);
  void rest();
  result<bool> on_head(const pb::StoreFrame&, uint64_t segment_bytes) override;
  result<void> on_frame(SiteAnswer) override;
  void lose(const std::string& why);
  void refuse(const std::string& why);
  void fail_queued(const Error&);

  const RemoteStoreOptions options_;
  const int wake_;
  std::mutex mutex_;
  std::deque<std::unique_ptr<SiteCall>> queue_;
  size_t calls_ = 0;  // accepted and unanswered
  bool stopping_ = false;

  State state_ = State::idle;
  std::unique_ptr<Dial> dial_;
  std::unique_ptr<SiteLink> link_;
  // While the local socket is tried: the TLS connection that goes on if it is none.
  std::unique_ptr<SiteLink> fallback_;
  std::optional<pb::StoreLocal> offer_;
  struct Shared {
    std::shared_ptr<SiteWindow> window;
    WindowRooms rooms;
    MonotonicTime used_at;
    bool used = false;
  };
  std::optional<Shared> shared_;  // with the server, on a local connection
  std::map<uint64_t, std::unique_ptr<SiteCall>> under_way_;
  uint64_t bytes_under_way_ = 0, next_id_ = 1;
  MonotonicTime owed_since_{}, greeted_by_{}, retry_at_{}, look_at_{};
  Duration pause_;
  std::string away_reason_;
  std::thread thread_;
};

}  // namespace datacloud
