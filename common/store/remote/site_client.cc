// See site_client.h.
#include "common/store/remote/site_client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "common/base/check.h"
#include "common/store/remote/site_connection.h"
#include "common/store/remote/site_messages.h"

namespace datacloud {
namespace {

constexpr Duration kPauseMin = milliseconds(100), kPauseMax = seconds(2);
constexpr Duration kHelloPatience = seconds(10);
constexpr int kTickMs = 500;  // how often silence and deadlines are looked at
constexpr uint64_t kHelloId = 1;

}  // namespace

SiteClient::SiteClient(RemoteStoreOptions options)
    : options_(std::move(options)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      pause_(kPauseMin) {
  DC_CHECK(wake_ >= 0, "an event descriptor");
  thread_ = std::thread([this] { run(); });
}

SiteClient::~SiteClient() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
  ::close(wake_);
}

Error SiteClient::strange() {
  return Error(Errc::corrupt, "the site's server has sent an answer that does not fit");
}

void SiteClient::start(std::unique_ptr<SiteCall> call) {
  {
    std::lock_guard lock(mutex_);
    if (calls_ < kRemoteCallsMax) {
      ++calls_;
      queue_.push_back(std::move(call));
    }
  }
  if (call) return call->done(failure(Errc::unavailable, "too many calls in flight"));
  wake();
}

void SiteClient::wake() {
  const uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
}

void SiteClient::answer(std::unique_ptr<SiteCall> call, result<SiteAnswer> with) {
  const auto done = std::move(call->done);
  call.reset();  // releases what it keeps alive
  done(std::move(with));
  std::lock_guard lock(mutex_);
  --calls_;
}

// --- the thread
// -----------------------------------------------------------------------------------

void SiteClient::run() {
  std::optional<MonotonicTime> stop_at;
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_ && !stop_at) stop_at = monotonic_now() + options_.farewell_max;
      if (stopping_ && calls_ == 0) return;
    }
    if (stop_at && monotonic_now() > *stop_at) {
      lose("the store is being closed");
      fail_queued(Error(Errc::away, "the store is being closed"));
      return;
    }
    const bool busy = step();
    wait(busy ? 0 : kTickMs);
  }
}

// Whatever can be done now. True: there may be more at once.
bool SiteClient::step() {
  drop_late();
  switch (state_) {
    case State::idle:
      return begin();
    case State::dialing:
      return take_dialed();
    case State::greeting:
    case State::connected:
      return exchange();
  }
  return false;
}

void SiteClient::wait(int timeout_ms) {
  pollfd fds[2] = {{wake_, POLLIN, 0}, {-1, POLLIN, 0}};
  if (state_ == State::dialing) fds[1].fd = dial_->ready_fd();
  if (link_) fds[1] = {link_->stream().fd(), link_->events(), 0};
  (void)::poll(fds, 2, timeout_ms);
  uint64_t ignored = 0;
  if (fds[0].revents != 0) (void)!::read(wake_, &ignored, sizeof ignored);
}

// Calls whose time is over before they were sent are not sent.
void SiteClient::drop_late() {
  const auto now = monotonic_now();
  if (now < look_at_) return;
  look_at_ = now + milliseconds(kTickMs);
  std::vector<std::unique_ptr<SiteCall>> late;
  {
    std::lock_guard lock(mutex_);
    for (auto& call : queue_)
      if (call->deadline < now) late.push_back(std::move(call));
    if (!late.empty()) std::erase(queue_, nullptr);
  }
  for (auto& call : late)
    answer(std::move(call), failure(Errc::timed_out, "still queued at its deadline"));
}

bool SiteClient::nothing_queued() {
  std::lock_guard lock(mutex_);
  return queue_.empty();
}

bool SiteClient::begin() {
  if (nothing_queued()) return false;
  if (monotonic_now() < retry_at_) {
    fail_queued(Error(Errc::away, away_reason_));
    return true;
  }
  auto dial = dial_site(options_);
  if (!dial) {
    refuse(dial.error().text());
    return true;
  }
  dial_ = std::move(dial).value();
  state_ = State::dialing;
  return false;
}

bool SiteClient::take_dialed() {
  auto outcome = dial_->take();
  if (!outcome) return false;
  dial_.reset();
  state_ = State::idle;
  if (!*outcome) {
    refuse(outcome->error().text());
    return true;
  }
  link_.emplace(std::move(*outcome).value());
  state_ = State::greeting;
  next_id_ = kHelloId;
  greeted_by_ = monotonic_now() + kHelloPatience;
  pb::StoreFrame frame;
  frame.set_id(next_id_++);
  frame.mutable_request()->mutable_hello()->set_marker(options_.expected.encode());
  link_->send(make_site_frame(std::move(frame), {}, nullptr));
  return true;
}

bool SiteClient::exchange() {
  if (state_ == State::connected) (void)send_queued();
  const auto turned = link_->turn(*this);
  if (!turned) {
    const Error error = turned.error();
    lose(error.text());
    return true;
  }
  // An answer, also that to hello, may have made room for the next call.
  if (turned.value() || (state_ == State::connected && send_queued())) return true;
  const auto now = monotonic_now();
  if (state_ == State::greeting && now > greeted_by_) {
    lose("no answer to the first request");
  } else if (!under_way_.empty() &&
             now > std::max({owed_since_, link_->heard_at(), link_->moved_at()}) +
                       options_.silence_max) {
    lose("the site's server has gone silent");
  }
  return false;
}

// True: something was sent.
bool SiteClient::send_queued() {
  for (bool any = false;; any = true) {
    std::unique_ptr<SiteCall> call;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty() || under_way_.size() >= kRemoteRequestsMax) return any;
      if (!under_way_.empty() && bytes_under_way_ + queue_.front()->bytes > kRemoteBytesMax)
        return any;
      call = std::move(queue_.front());
      queue_.pop_front();
    }
    pb::StoreFrame frame;
    frame.set_id(next_id_);
    *frame.mutable_request() = call->request;
    if (call->deadline != MonotonicTime::max()) {
      const auto left = std::chrono::ceil<milliseconds>(call->deadline - monotonic_now()).count();
      frame.mutable_request()->set_deadline_ms(static_cast<uint64_t>(std::max<int64_t>(1, left)));
    }
    if (call->request.has_put()) {  // one object, whatever the caller's parts are
      uint64_t total = 0;
      for (const auto& part : call->parts) total += part.size();
      frame.add_segments(static_cast<uint32_t>(total));
    }
    if (under_way_.empty()) owed_since_ = monotonic_now();
    bytes_under_way_ += call->bytes;
    link_->send(make_site_frame(std::move(frame), call->parts, call->owner));
    under_way_.emplace(next_id_++, std::move(call));
  }
}

// Frames are those of calls that wait for them, and no longer than was asked for.
result<bool> SiteClient::on_head(const pb::StoreFrame& head, uint64_t segment_bytes) {
  if (!head.has_reply()) return failure(strange());
  if (head.id() == 0 || (state_ == State::greeting && head.id() == kHelloId)) {
    if (segment_bytes != 0) return failure(strange());
    return true;
  }
  const auto call = under_way_.find(head.id());
  if (state_ != State::connected || call == under_way_.end()) return failure(strange());
  const auto& max = call->second->answer_max;
  if (static_cast<size_t>(head.segments_size()) > max.size()) return failure(strange());
  for (int i = 0; i < head.segments_size(); ++i)
    if (head.segments(i) > max[static_cast<size_t>(i)]) return failure(strange());
  return true;
}

result<void> SiteClient::on_frame(SiteAnswer whole) {
  const uint64_t id = whole.head.id();
  if (id == 0) {  // an error turns us away; else it is a sign of life
    TRY(reply_error(whole.head.reply()));
    return success();
  }
  if (state_ == State::greeting) {
    TRY(reply_error(whole.head.reply()));
    state_ = State::connected;
    pause_ = kPauseMin;
    return success();
  }
  const auto found = under_way_.find(id);
  auto call = std::move(found->second);
  under_way_.erase(found);
  bytes_under_way_ -= call->bytes;
  answer(std::move(call), std::move(whole));
  return success();
}

// The connection is over. What was not greeted counts as not reached.
void SiteClient::lose(const std::string& why) {
  const bool greeting = state_ == State::greeting;
  link_.reset();
  dial_.reset();
  state_ = State::idle;
  bytes_under_way_ = 0;
  auto lost = std::move(under_way_);
  under_way_.clear();
  std::vector<std::unique_ptr<SiteCall>> again;
  for (auto& [id, call] : lost) {
    if (call->changes)
      answer(std::move(call), failure(Errc::timed_out, why + "; the outcome is not known"));
    else if (call->repeated)
      answer(std::move(call), failure(Errc::away, why));
    else
      again.push_back(std::move(call));
  }
  {
    std::lock_guard lock(mutex_);
    for (auto it = again.rbegin(); it != again.rend(); ++it) {
      (*it)->repeated = true;
      queue_.push_front(std::move(*it));
    }
  }
  if (greeting) refuse(why);
}

void SiteClient::refuse(const std::string& why) {
  retry_at_ = monotonic_now() + pause_;
  pause_ = std::min<Duration>(pause_ * 2, kPauseMax);
  away_reason_ = why + "; is `datacloudd --site " + options_.site + "` running there?";
  fail_queued(Error(Errc::away, away_reason_));
}

void SiteClient::fail_queued(const Error& error) {
  std::deque<std::unique_ptr<SiteCall>> failed;
  {
    std::lock_guard lock(mutex_);
    failed.swap(queue_);
  }
  for (auto& call : failed) answer(std::move(call), failure(error));
}

}  // namespace datacloud
