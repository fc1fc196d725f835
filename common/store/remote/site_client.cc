// See site_client.h.
#include "common/store/remote/site_client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/store/remote/site_connection.h"
#include "common/store/remote/site_local.h"
#include "common/store/remote/site_messages.h"

namespace datacloud {
namespace {

constexpr Duration kPauseMin = milliseconds(100), kPauseMax = seconds(2);
constexpr Duration kHelloPatience = seconds(10), kLocalPatience = seconds(2);
constexpr Duration kWindowKept = seconds(10);
constexpr uint64_t kWindowCallBytesMin = 16u << 10;  // less costs no more in its frame
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
  rest();
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
  link_ = std::make_unique<SiteLink>(std::move(*outcome).value());
  greeted_by_ = monotonic_now() + kHelloPatience;
  greet();
  return true;
}

void SiteClient::greet() {
  state_ = State::greeting;
  next_id_ = kHelloId;
  pb::StoreFrame frame;
  frame.set_id(next_id_++);
  auto& hello = *frame.mutable_request()->mutable_hello();
  hello.set_marker(options_.expected.encode());
  hello.set_local(options_.window_bytes > 0 && !fallback_);
  if (hello.local()) hello.set_uid(::geteuid());
  link_->send(make_site_frame(std::move(frame), {}, nullptr));
}

// Whatever fails here, the TLS connection is there and goes on.
void SiteClient::go_local(const pb::StoreLocal& offer) {
  auto local = connect_local(offer, options_.window_bytes);
  if (!local) {
    spdlog::debug("site {}: goes on over TLS: {}", options_.site, local.error().text());
    return;
  }
  auto window = std::move(local.value().window);
  fallback_ = std::exchange(link_, std::make_unique<SiteLink>(std::move(local.value().stream)));
  const size_t bytes = window->size();
  shared_.emplace(Shared{std::move(window), WindowRooms(bytes), monotonic_now()});
  greeted_by_ = monotonic_now() + kLocalPatience;
  greet();
}

bool SiteClient::exchange() {
  if (state_ == State::connected) (void)send_queued();
  const auto turned = link_->turn(*this);
  if (!turned) {
    const Error error = turned.error();
    lose(error.text());
    return true;
  }
  if (const auto offer = std::exchange(offer_, std::nullopt)) {
    go_local(*offer);
    return true;
  }
  if (state_ == State::connected) fallback_.reset();
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
    if (!place(*call, frame)) {
      std::lock_guard lock(mutex_);
      queue_.push_front(std::move(call));
      return any;
    }
    frame.set_id(next_id_);
    auto spaces = std::move(*frame.mutable_request()->mutable_space());
    *frame.mutable_request() = call->request;
    *frame.mutable_request()->mutable_space() = std::move(spaces);
    if (call->deadline != MonotonicTime::max()) {
      const auto left = std::chrono::ceil<milliseconds>(call->deadline - monotonic_now()).count();
      frame.mutable_request()->set_deadline_ms(static_cast<uint64_t>(std::max<int64_t>(1, left)));
    }
    if (call->request.has_put() && frame.segments_size() == 0) {
      // One object, whatever the caller's parts are.
      uint64_t total = 0;
      for (const auto& part : call->parts) total += part.size();
      frame.add_segments(static_cast<uint32_t>(total));
    }
    if (under_way_.empty()) owed_since_ = monotonic_now();
    bytes_under_way_ += call->bytes;
    const bool placed = frame.in_window_size() != 0;
    link_->send(make_site_frame(std::move(frame), placed ? std::vector<ByteView>() : call->parts,
                                call->owner));
    under_way_.emplace(next_id_++, std::move(call));
  }
}

// Gives the call's bytes their room in the window: those of a put are copied there. False: there is
// no room now, and there will be when calls under way have been answered.
bool SiteClient::place(SiteCall& call, pb::StoreFrame& frame) {
  if (!shared_) return true;
  const auto& window = *shared_->window;
  uint64_t bytes = 0;
  const auto add = [&](uint64_t more) {
    bytes += std::min<uint64_t>(more, window.size() + 1 - bytes);  // past its end is enough
  };
  if (call.request.has_put()) {
    for (const auto& part : call.parts) add(part.size());
  } else if (call.request.has_read()) {
    for (const uint64_t max : call.answer_max) add(max);
  }
  if (bytes < kWindowCallBytesMin || bytes > window.size()) return true;
  call.room = shared_->rooms.take(bytes);
  if (!call.room) return false;
  shared_->used = true;
  uint64_t at = *call.room;
  if (call.request.has_put()) {
    for (const auto& part : call.parts) {
      std::copy(part.begin(), part.end(), window.at(at, part.size()).begin());
      at += part.size();
    }
    frame.add_segments(static_cast<uint32_t>(bytes));
    frame.add_in_window(*call.room + 1);
    return true;
  }
  for (const uint64_t max : call.answer_max) {
    auto& space = *frame.mutable_request()->add_space();
    space.set_offset(at);
    space.set_length(max);
    call.spaces.push_back(at);
    at += max;
  }
  return true;
}

// Takes what has come through the window, and gives the room back.
void SiteClient::fetch(SiteCall& call, SiteAnswer& whole) {
  if (!shared_ || !call.room) return;
  for (int i = 0; i < whole.head.segments_size(); ++i) {
    if (!is_in_window(whole.head, i)) continue;
    const auto from =
        shared_->window->at(call.spaces[static_cast<size_t>(i)], whole.head.segments(i));
    whole.segments[static_cast<size_t>(i)].assign(from.begin(), from.end());
  }
  shared_->rooms.give_back(*call.room);
  call.room.reset();
  shared_->used_at = monotonic_now();
}

// The pages of a window that nobody has used for a while go back to the kernel.
void SiteClient::rest() {
  if (!shared_ || !shared_->used || !shared_->rooms.empty()) return;
  if (monotonic_now() < shared_->used_at + kWindowKept) return;
  shared_->window->release();
  shared_->used = false;
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
  const auto& spaces = call->second->spaces;
  for (int i = 0; i < head.segments_size(); ++i) {
    const auto at = static_cast<size_t>(i);
    if (head.segments(i) > max[at]) return failure(strange());
    if (is_in_window(head, i) && (at >= spaces.size() || head.in_window(i) != spaces[at] + 1))
      return failure(strange());
  }
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
    if (whole.head.reply().has_local() && options_.window_bytes > 0 && !fallback_)
      offer_ = whole.head.reply().local();
    return success();
  }
  const auto found = under_way_.find(id);
  auto call = std::move(found->second);
  under_way_.erase(found);
  bytes_under_way_ -= call->bytes;
  fetch(*call, whole);
  answer(std::move(call), std::move(whole));
  return success();
}

// The connection is over. What was not greeted counts as not reached.
void SiteClient::lose(const std::string& why) {
  const bool greeting = state_ == State::greeting;
  link_.reset();
  dial_.reset();
  offer_.reset();
  shared_.reset();
  if (fallback_) {  // the local socket was none; nothing was asked of it but hello
    spdlog::debug("site {}: goes on over TLS: {}", options_.site, why);
    link_ = std::move(fallback_);
    state_ = State::connected;
    return;
  }
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
      (*it)->room.reset();
      (*it)->spaces.clear();
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
