// Connecting, hello, resuming a session and losing it: the other half of the RPC client
// (rpc_client.h). Everything here runs on the I/O thread, besides start().
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/rpc/journal_mark.h"
#include "common/rpc/protocol_range.h"
#include "common/rpc/rpc_client.h"

namespace datacloud {
namespace {

constexpr Duration kBackoffMin = milliseconds(50);
constexpr Duration kBackoffMax = seconds(1);
constexpr Duration kTurnedAwayMin = seconds(1), kTurnedAwayMax = seconds(60);
// A tool's user waits for an answer: a daemon that does not listen is reported soon.
constexpr Duration kToolPatience = milliseconds(500);
// Long calls have long deadlines; hello is never one of them.
constexpr Duration kFirstHelloMax = seconds(30);
constexpr Duration kHelloAnswerMax = seconds(15);  // over TLS; then the connection is tried anew
// Where several daemons are known, one that says nothing to a hello is passed over sooner: at first
// after the former, each time all were tried after twice as long, so that a slow leader is heard.
constexpr Duration kHelloAnswerMin = milliseconds(500);
constexpr Duration kBackoffMaxOfSeveral = milliseconds(250);  // a standby takes over in seconds
constexpr Duration kSearchAfter = seconds(1);  // without a leader: whoever knows more is asked
constexpr Duration kToolPatienceOfSeveral = seconds(3);

result<std::unique_ptr<ByteStream>> connect_unix(const std::string& address) {
  TRY(auto path, unix_socket_path(address));
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return failure(Error::posix(errno, "cannot make a socket"));
  sockaddr_un to;
  fill_unix_address(path, to);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0)
    return make_socket_stream(fd);
  Error error = Error::posix(errno, address);
  ::close(fd);
  return failure(std::move(error));
}

}  // namespace

result<std::unique_ptr<RpcClient>> connect_rpc(RpcClient::Options options, pb::HelloReply* hello) {
  TRY(auto session, connect_session(std::move(options), hello));
  return std::unique_ptr<RpcClient>(std::move(session));
}

result<std::unique_ptr<RpcSession>> connect_session(RpcClient::Options options,
                                                    pb::HelloReply* hello, Keeping keeping) {
  auto client = std::make_unique<RpcSessionClient>(std::move(options), std::move(keeping));
  TRY(auto reply, client->start());
  if (hello != nullptr) *hello = std::move(reply);
  return std::unique_ptr<RpcSession>(std::move(client));
}

result<pb::HelloReply> RpcSessionClient::start() {
  if (known_->all().empty()) {
    return failure(Errc::invalid, "no address of the daemon is configured ([daemon] listen)");
  }
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return failure(Error::posix(errno, "cannot make an event descriptor"));
  started_ = down_since_ = monotonic_now();
  session_ = options_.session.id();
  thread_ = std::thread([this] { run(); });
  std::unique_lock lock(mutex_);
  const Duration patience = std::min(options_.deadline, kFirstHelloMax);
  if (!first_hello_done_.wait_for(lock, patience, [&] { return first_hello_.has_value(); })) {
    return failure(unreachable());
  }
  return *first_hello_;
}

Error RpcSessionClient::unreachable() const {
  if (state_ == State::up) {
    return Error(Errc::unavailable,
                 fmt::format("the daemon did not answer within {} s",
                             std::chrono::duration<double>(options_.deadline).count()));
  }
  const auto known = known_->all();
  // Only sockets of this machine are of use to it.
  const bool shut_out = !options_.tls && candidates().size() < known.size();
  return Error(Errc::unavailable,
               fmt::format("cannot reach the daemon: {}{}{}",
                           last_failure_.empty() ? known[0] : last_failure_,
                           answered_ ? "" : "; is datacloudd running?",
                           shut_out ? " If another machine's daemon leads, this one needs a "
                                      "certificate to reach it: `datacloud join`"
                                    : ""));
}

// What is tried: without a certificate to show, Unix sockets alone, if there are any.
std::vector<std::string> RpcSessionClient::candidates() const {
  auto addresses = known_->all();
  if (!options_.tls && !std::all_of(addresses.begin(), addresses.end(), is_tls_address))
    std::erase_if(addresses, is_tls_address);
  return addresses;
}

void RpcSessionClient::connect_now() {
  auto addresses = candidates();
  several_ = addresses.size() > 1;
  backoff_ = std::clamp(backoff_ * 2, kBackoffMin, several_ ? kBackoffMaxOfSeveral : kBackoffMax);
  hello_patience_ = std::clamp(hello_patience_, kHelloAnswerMin, kHelloAnswerMax);
  std::erase_if(addresses, [this](const auto& one) { return passed_over_.contains(one); });
  if (addresses.empty()) return nobody_leads();
  {
    std::lock_guard lock(mutex_);
    answered_ = false;
  }
  auto local = connect_local(addresses);
  if (local) return adopt(std::move(local).value(), false);
  std::vector<std::string> remote;
  for (const auto& address : addresses)
    if (is_tls_address(address)) remote.push_back(address);
  if (remote.empty()) return connect_failed(local.error());
  if (!options_.tls) {
    return connect_failed(Error(Errc::invalid, remote[0] +
                                                   ": this machine has no certificate to show; "
                                                   "`datacloud join` makes one"));
  }
  auto context = options_.tls();
  if (!context) return connect_failed(context.error());
  dial_ = std::make_unique<Dial>(std::move(remote), std::move(context).value());
}

void RpcSessionClient::take_dialled() {
  auto outcome = dial_->take();
  if (!outcome) return;
  const bool answered = dial_->answered();
  address_ = dial_->winner();
  dial_.reset();
  {
    std::lock_guard lock(mutex_);
    answered_ = answered;
  }
  if (!*outcome) return connect_failed(outcome->error());
  adopt(std::move(outcome->value()), true);
}

void RpcSessionClient::connect_failed(const Error& error) {
  {
    std::lock_guard lock(mutex_);
    last_failure_ = error.message();
  }
  nobody_leads();
  const Duration patience = several_ ? kToolPatienceOfSeveral : kToolPatience;
  std::lock_guard lock(mutex_);
  const bool give_up = error.is(Errc::invalid) ||
                       (options_.kind == pb::CLIENT_TOOL && monotonic_now() - started_ >= patience);
  if (!first_hello_ && give_up) {
    first_hello_ = error.is(Errc::invalid) ? error : unreachable();
    first_hello_done_.notify_all();
  }
}

// The daemon at this address does not lead, or says nothing: the others first.
void RpcSessionClient::pass_over() {
  passed_over_.insert(address_);
  for (const auto& address : candidates()) {
    if (passed_over_.contains(address)) continue;
    retry_at_ = monotonic_now();
    return;
  }
  nobody_leads();
}

// All known addresses were tried: once more, from the first one, a little later.
void RpcSessionClient::nobody_leads() {
  if (!passed_over_.empty()) hello_patience_ *= 2;
  passed_over_.clear();
  retry_at_ = monotonic_now() + std::max(backoff_, kBackoffMin);
  if (monotonic_now() - down_since_ >= kSearchAfter) known_->unreachable();
}

// The first Unix socket that answers.
result<std::unique_ptr<ByteStream>> RpcSessionClient::connect_local(
    const std::vector<std::string>& addresses) {
  Error last(Errc::unavailable, "there is no local address");
  for (const auto& address : addresses) {
    if (is_tls_address(address)) continue;
    auto stream = connect_unix(address);
    if (stream) {
      address_ = address;
      return stream;
    }
    last = stream.error();
  }
  return failure(std::move(last));
}

// A network can lose a connection without a word. A mount hears from its daemon with every
// keepalive; without an answer to some the connection is made anew, long before TCP gives up.
void RpcSessionClient::end_silence() {
  Duration silent{}, patience{};
  {
    std::lock_guard lock(mutex_);
    silent = monotonic_now() - std::max(heard_, hello_sent_);
    if (state_ == State::hello_sent)
      patience = several_ ? hello_patience_ : kHelloAnswerMax;
    else if (options_.kind == pb::CLIENT_MOUNT && lease_ > Duration{})
      patience = lease_ / 4 + seconds(1);
    else
      return;
  }
  if (silent <= patience) return;
  disconnect(fmt::format("the daemon has said nothing for {} s",
                         std::chrono::duration_cast<seconds>(silent).count()),
             true);
}

pb::HelloRequest RpcSessionClient::make_hello() {
  pb::HelloRequest hello;
  const bool mounts = options_.kind == pb::CLIENT_MOUNT;
  hello.set_protocol(!mounts ? kProtocolOldest : offer_ != 0 ? offer_ : kProtocolNewest);
  hello.set_protocol_min(kProtocolOldest);
  hello.set_kind(options_.kind);
  *hello.mutable_session() = options_.session;
  hello.mutable_session()->set_secret(secret_);
  // Tools hold nothing that is worth resuming.
  hello.mutable_session()->set_id(mounts ? session() : 0);
  if (hello.session().id() != 0 && options_.on_resume) options_.on_resume(hello);
  std::lock_guard lock(mutex_);
  // What came after that is sent again, should the daemon have lost it.
  hello.set_sequence(committed_ != 0 ? committed_ : sequence_);
  hello.set_journal_position(position_);
  std::vector<InodeId> inodes = kept_.inodes();
  for (const auto& [id, request] : pending_)
    if (request.ino != 0) inodes.push_back(request.ino);
  std::sort(inodes.begin(), inodes.end());
  for (const InodeId ino : inodes) {
    const int ranges = hello.inodes_size();
    if (ranges > 0 && hello.inodes(ranges - 1).first() + hello.inodes(ranges - 1).count() == ino) {
      hello.mutable_inodes(ranges - 1)->set_count(hello.inodes(ranges - 1).count() + 1);
      continue;
    }
    auto* range = hello.add_inodes();
    range->set_first(ino);
    range->set_count(1);
  }
  return hello;
}

// Sends hello with request id 0: it belongs to the connection, not to the session.
void RpcSessionClient::adopt(std::unique_ptr<ByteStream> stream, bool remote) {
  pb::Frame frame;
  *frame.mutable_request()->mutable_hello() = make_hello();
  auto encoded = encode_frame(frame);
  if (!encoded) {
    // The daemon would treat leases that are not named as given up, while this mount relied on
    // them. With a new session they all end here, too, and are asked for again. Its secret is
    // another one: by the old one the daemon would go on with the old session.
    spdlog::error(
        "this mount holds {} leases, more than one message can name: it begins a new session",
        frame.request().hello().leases_size());
    {
      std::lock_guard lock(mutex_);
      session_lost_ = true;
      session_ = 0;
    }
    const auto bytes = static_cast<ssize_t>(secret_.size());
    DC_CHECK(::getrandom(secret_.data(), secret_.size(), 0) == bytes, "randomness for a secret");
    *frame.mutable_request()->mutable_hello() = make_hello();
    encoded = encode_frame(frame);
  }
  reader_ = FrameReader();
  remote_ = remote;
  unread_ = remote;  // what came with the handshake
  std::lock_guard lock(mutex_);
  answered_ = true;
  stream_ = std::move(stream);
  state_ = State::hello_sent;
  out_.clear();
  hello_sent_ = monotonic_now();
  hello_suspended_ = options_.suspended();
  out_.push(std::move(encoded).value());
  out_.write_to(*stream_);
}

// A daemon whose journal lacks what another leader has told to be committed was put back from a
// backup, with the sites or without them: what this mount and its programs rely on is not there.
result<void> RpcSessionClient::check_history(const pb::HelloReply& hello) const {
  std::lock_guard lock(mutex_);
  if (first_hello_ && *first_hello_ && hello.cloud().uuid() != first_hello_->value().cloud().uuid())
    return failure(Errc::unavailable, "the daemon at " + address_ + " serves another cloud");
  if (!lacks(hello.journal_position(), position_)) return success();
  const auto seen = JournalMark::read(position_);
  return failure(
      Errc::stale,
      fmt::format(
          "the cloud's journal has gone back: this mount was told that entry {} of epoch {} "
          "is committed, and the daemon at {} does not have it. It was put back from a "
          "backup, or recovered to an earlier entry (`datacloud journal status`); if that "
          "is intended, unmount and mount again",
          seen->sequence, seen->epoch, address_));
}

void RpcSessionClient::note_position(const std::string& told) {
  const auto mark = JournalMark::read(told);
  const auto before = JournalMark::read(position_);
  if (mark && (!before || mark->order(*before) > 0)) position_ = told;
}

// True: the connection stays.
bool RpcSessionClient::handle_hello(const pb::Reply& reply) {
  auto status = reply_error(reply);
  if (!status) return hello_refused(status.error());
  if (state_ != State::hello_sent || !reply.has_hello()) {
    disconnect("the daemon answered a hello that was not sent");
    return false;
  }
  const pb::HelloReply& hello = reply.hello();
  if (hello.protocol() != 0 && !own_protocols().has(hello.protocol())) {
    return hello_refused(no_common_protocol({"", {hello.protocol(), hello.protocol()}},
                                            {DATACLOUD_VERSION, own_protocols()}));
  }
  if (auto same = check_history(hello); !same) return hello_refused(same.error());
  known_->told(hello, !remote_);
  if (!lead_from_.empty() && lead_from_ != address_) {
    const std::string name = known_->name_of(address_);
    spdlog::warn("another daemon leads the cloud now: {}{}", name.empty() ? "" : name + " at ",
                 address_);
  }
  lead_from_ = address_;
  passed_over_.clear();
  hello_patience_ = Duration{};
  PendingMap lost;
  KeptRequests::Map lost_kept;
  {
    std::lock_guard lock(mutex_);
    const bool resuming = options_.kind == pb::CLIENT_MOUNT && session_ != 0;
    const bool known = hello.resumed();
    const bool restarted = start_ != 0 && hello.start() != start_;
    if (session_lost_ || (resuming && !known)) {
      lost = take_lost(false);
      lost_kept = kept_.take_all();
    } else if (resuming && hello.session() != session_) {
      lost = take_lost(true);
    }
    session_lost_ = false;
    if (!known) sequence_ = committed_ = 0;  // perhaps of another history
    protocol_ = std::max(hello.protocol(), kProtocolOldest);
    if (protocol_ < kProtocolRejoin) (void)kept_.take_all();  // it does not say what is durable
    if (restarted) kept_.send_all_again();
    kept_.connected();
    mark_due_ = mark_due_ || (restarted && known && protocol_ >= kProtocolRejoin);
    start_ = hello.start();
    note_position(hello.journal_position());
    session_ = hello.session();
    lease_ = milliseconds(hello.lease_ms());
    lease_end_ = hello_sent_ + milliseconds(hello.lease_ms());
    lease_suspended_ = hello_suspended_;
  }
  backoff_ = refused_for_ = Duration{};
  offer_ = 0;
  if (options_.on_session) options_.on_session(hello);
  const Error gone(Errc::session_lost, "the daemon no longer knows this session");
  fail(std::move(lost), gone);
  lose_kept(std::move(lost_kept), gone);
  std::lock_guard lock(mutex_);
  last_failure_.clear();
  state_ = State::resending;
  note_committed(reply.committed());
  send_kept();
  if (!first_hello_) {
    first_hello_ = hello;
    first_hello_done_.notify_all();
  }
  return true;
}

// A mount that is turned away for good (its node was revoked) goes on trying: the node may be let
// in again. But less and less often, and it says so once.
bool RpcSessionClient::hello_refused(const Error& error) {
  // A daemon from before protocols were chosen knows only the oldest.
  if (error.is(Errc::unsupported) && options_.kind == pb::CLIENT_MOUNT && offer_ == 0) {
    offer_ = kProtocolOldest;
    disconnect("the daemon speaks an older protocol");
    passed_over_.erase(address_);  // it is asked again
    retry_at_ = monotonic_now();
    return false;
  }
  bool turned_away = false;
  {
    std::lock_guard lock(mutex_);
    // A daemon that is still starting says unavailable; anything else will not change.
    if (!first_hello_ && !error.is(Errc::unavailable) && !error.is(Errc::session_lost)) {
      first_hello_ = error.in("the daemon refused the connection");
      first_hello_done_.notify_all();
    } else {
      turned_away = first_hello_ && (error.errno_value() == EACCES || error.is(Errc::stale));
    }
    if (error.is(Errc::session_lost)) {
      session_lost_ = true;  // a new session next time
      session_ = 0;
    }
  }
  disconnect("refused: " + error.message());
  if (error.is(Errc::session_lost)) passed_over_.erase(address_);
  if (!turned_away || !passed_over_.empty()) return false;
  if (refused_for_ == Duration{})
    spdlog::error("the daemon turns this mount away: {}; it is asked again, less and less often",
                  error.text());
  refused_for_ = std::clamp(refused_for_ * 2, kTurnedAwayMin, kTurnedAwayMax);
  retry_at_ = monotonic_now() + refused_for_;
  return false;
}

void RpcSessionClient::disconnect(const std::string& why, bool silent) {
  PendingMap failed;
  Error error;
  bool unheard = false;
  {
    std::lock_guard lock(mutex_);
    stream_.reset();
    unheard = state_ == State::hello_sent || silent;
    if (state_ != State::hello_sent) down_since_ = monotonic_now();
    state_ = State::down;
    out_.clear();
    last_failure_ = why;
    error = unreachable();
    if (options_.kind == pb::CLIENT_TOOL) {
      failed.swap(pending_);
      unanswered_bytes_ = held_back_ = 0;
    }
  }
  unread_ = false;
  retry_at_ = monotonic_now() + std::max(backoff_, kBackoffMin);
  if (unheard) pass_over();
  fail(std::move(failed), error);
  lose_late_answers();
}

}  // namespace datacloud
