// Applying replies in order; leases.
#include "fs/file/metadata_client.h"

#include <optional>
#include <utility>

#include "fs/base/interruption.h"

#include "common/base/log.h"

namespace datacloud {
struct RequestFacts {
  uint64_t ticket = 0;
  InodeId parent = 0;  // of a lookup or create
  bool open = false;
  bool removes = false;
  pb::LeaseMode pin = pb::LEASE_NONE;
  std::vector<InodeId> changed;  // directories whose own attributes a success changes
  std::vector<std::pair<InodeId, std::string>> names;  // that a success changes
  InodeId listed = 0;  // readdir: the directory, and where it begins
  uint64_t cookie = 0;
  bool attributes = false;
  bool changes = false;         // names, attributes or extended attributes
  InodeId altered = 0;          // the inode whose attributes it changes, if it names one
  bool alters_unnamed = false;  // changes attributes of inodes that only the reply names
};

namespace {

// Attempts to get a lease that is recalled again before it can be used.
constexpr int kLeaseAttemptsMax = 2000;
constexpr int kLeaseAttemptsQuick = 3;  // then with pauses

bool changes_metadata(const pb::Request& request) {
  switch (request.op_case()) {
    case pb::Request::kCreate:
    case pb::Request::kLink:
    case pb::Request::kUnlink:
    case pb::Request::kRename:
    case pb::Request::kSetattr:
    case pb::Request::kSetxattr:
    case pb::Request::kRemovexattr:
      return true;
    default:
      return false;
  }
}

RequestFacts facts_of(const pb::Request& request) {
  RequestFacts facts;
  facts.changes = changes_metadata(request);
  switch (request.op_case()) {
    case pb::Request::kLookup:
      facts.parent = request.lookup().parent();
      break;
    case pb::Request::kCreate:
      facts.open = request.create().open();
      if (request.create().unnamed()) break;  // the directory stays as it is
      facts.parent = request.create().parent();
      facts.changed = {facts.parent};
      facts.names = {{facts.parent, request.create().name()}};
      break;
    case pb::Request::kLink:
      facts.changed = {request.link().parent()};
      facts.names = {{request.link().parent(), request.link().name()}};
      facts.altered = request.link().ino();
      break;
    case pb::Request::kUnlink:
      facts.changed = {request.unlink().parent()};
      facts.names = {{request.unlink().parent(), request.unlink().name()}};
      facts.removes = true;
      facts.alters_unnamed = true;
      break;
    case pb::Request::kRename:
      facts.changed = {request.rename().parent(), request.rename().new_parent()};
      facts.names = {{request.rename().parent(), request.rename().name()},
                     {request.rename().new_parent(), request.rename().new_name()}};
      facts.alters_unnamed = true;
      break;
    case pb::Request::kSetattr:
      facts.altered = request.setattr().ino();
      break;
    case pb::Request::kSetxattr:
      facts.altered = request.setxattr().ino();
      break;
    case pb::Request::kRemovexattr:
      facts.altered = request.removexattr().ino();
      break;
    case pb::Request::kLease:
      facts.open = request.lease().open();
      break;
    case pb::Request::kReaddir:
      facts.listed = request.readdir().ino();
      facts.cookie = request.readdir().cookie();
      facts.attributes = request.readdir().plus();
      break;
    default:
      break;
  }
  return facts;
}

void note_removal(Inode& inode) {
  std::lock_guard lock(inode.mutex);
  inode.removed_here = inode.removed_here || inode.attr.nlink() == 0;
}

// Listings of subdirectories that came along: nobody waits for them, they are only known.
void apply_below(InodeTable& table, uint64_t session, uint64_t sequence, uint64_t ticket,
                 const pb::ReadDirReply& listing) {
  for (const auto& below : listing.below()) {
    std::vector<InodePtr> inodes;
    for (const auto& item : below.listing().items())
      if (item.has_inode())
        inodes.push_back(table.apply(item.inode(), item.lease(), false, sequence, session, ticket));
    table.apply_parent_lease(below.ino(), below.listing().lease(), session, ticket);
    table.learn(below.ino(), 0, below.listing(), session, ticket);
    for (const auto& inode : inodes) table.release_if_unused(inode);
    apply_below(table, session, sequence, ticket, below.listing());
  }
}

void apply(InodeTable& table, uint64_t session, const RequestFacts& facts,
           MetadataClient::Answer& answer) {
  const pb::Reply& reply = answer.reply;
  const uint64_t sequence = reply.sequence();
  for (const InodeId directory : facts.changed) table.mark_stale(directory, sequence, session);
  for (const auto& [directory, name] : facts.names) table.forget_names(directory, {name});
  switch (reply.op_case()) {
    case pb::Reply::kAttr:
      if (!reply.attr().has_inode()) break;
      answer.inode = table.apply(reply.attr().inode(), reply.attr().lease(), facts.open, sequence,
                                 session, facts.ticket);
      if (facts.removes) note_removal(*answer.inode);
      if (facts.pin != pb::LEASE_NONE) {
        std::lock_guard lock(answer.inode->mutex);
        answer.pinned = answer.inode->lease >= facts.pin && answer.inode->lease_session == session;
        if (answer.pinned) ++answer.inode->users;
      }
      if (facts.parent)
        table.apply_parent_lease(facts.parent, reply.attr().parent_lease(), session, facts.ticket);
      break;
    case pb::Reply::kRename:
      answer.inode = table.apply(reply.rename().moved(), pb::LEASE_NONE, false, sequence, session,
                                 facts.ticket);
      if (reply.rename().has_replaced()) {
        answer.replaced = table.apply(reply.rename().replaced(), pb::LEASE_NONE, false, sequence,
                                      session, facts.ticket);
        note_removal(*answer.replaced);
      }
      break;
    case pb::Reply::kReaddir:
      for (const auto& item : reply.readdir().items())
        answer.entries.push_back(item.has_inode() ? table.apply(item.inode(), item.lease(), false,
                                                                sequence, session, facts.ticket)
                                                  : nullptr);
      table.apply_parent_lease(facts.listed, reply.readdir().lease(), session, facts.ticket);
      if (facts.attributes)
        table.learn(facts.listed, facts.cookie, reply.readdir(), session, facts.ticket);
      apply_below(table, session, sequence, facts.ticket, reply.readdir());
      break;
    default:
      break;
  }
}

// Not ENOENT: that is an answer about a name.
Error gone(InodeId ino) {
  return Error::posix(ESTALE, "inode " + std::to_string(ino) +
                                  " does not exist any more: it had no name when the session that "
                                  "kept it open ended");
}

// Counts an operation that waits for a lease.
class Asking {
 public:
  explicit Asking(Inode& inode) : inode_(inode) {
    std::lock_guard lock(inode_.mutex);
    ++inode_.askers;
  }
  ~Asking() {
    std::lock_guard lock(inode_.mutex);
    --inode_.askers;
  }
  Asking(const Asking&) = delete;
  Asking& operator=(const Asking&) = delete;

 private:
  Inode& inode_;
};

Error unsteady(InodeId ino) {
  return Error(Errc::unavailable, "the lease on inode " + std::to_string(ino) +
                                      " is recalled again and again; try later");
}

}  // namespace

bool session_is_over(const Error& error) {
  return error.is(Errc::session_lost) || error.is(Errc::stale);
}

pb::Request lease_request(InodeId ino, pb::LeaseMode mode, bool open) {
  pb::Request request;
  auto* lease = request.mutable_lease();
  lease->set_ino(ino);
  lease->set_mode(mode);
  lease->set_open(open);
  return request;
}

// A request on its way, shared by whoever waits and the callback.
struct MetadataClient::Call {
  RequestFacts facts;
  std::mutex mutex;
  std::condition_variable_any answered;
  std::optional<result<Answer>> answer;
  std::function<void(result<Answer>)> done;  // of ask()
  bool given_up = false;                     // nobody waits any more
};

std::shared_ptr<MetadataClient::Call> MetadataClient::start(const pb::Request& request,
                                                            pb::LeaseMode pin) {
  auto call = std::make_shared<Call>();
  call->facts = facts_of(request);
  call->facts.pin = pin;
  call->facts.ticket = table_.begin_request();
  return call;
}

result<MetadataClient::Answer> MetadataClient::call(pb::Request request, pb::LeaseMode pin,
                                                    const std::function<void()>& behind) {
  const auto call = start(request, pin);
  send(std::move(request), call);
  if (behind) behind();
  std::unique_lock lock(call->mutex);
  auto waited = wait_interruptibly(call->answered, lock, [&] { return call->answer.has_value(); });
  if (!waited) {
    call->given_up = true;
    return failure(waited.error());
  }
  auto answer = std::move(*call->answer);
  lock.unlock();
  if (answer && call->facts.changes && synchronous_) {
    pb::Request sync;
    sync.mutable_sync();
    if (auto synced = run(std::move(sync)); !synced) {
      give_back(*call, answer.value());
      return failure(synced.error());
    }
  }
  return answer;
}

void MetadataClient::ask(pb::Request request, Duration patience,
                         std::function<void(result<Answer>)> done) {
  const auto call = start(request, pb::LEASE_NONE);
  call->done = std::move(done);
  send(std::move(request), call);
  timers_.after(patience, [call] {
    std::function<void(result<Answer>)> done;
    {
      std::lock_guard lock(call->mutex);
      if (call->given_up || !call->done) return;
      call->given_up = true;
      done = std::move(call->done);
    }
    done(failure(Errc::unavailable, "the daemon does not answer"));
  });
}

void MetadataClient::send(pb::Request request, const std::shared_ptr<Call>& call) {
  client_.call_until_known(
      std::move(request), [this, call](result<pb::Reply> reply) { finish(call, std::move(reply)); },
      [this, call](result<pb::Reply> reply) { known_late(*call, std::move(reply)); });
}

void MetadataClient::finish(const std::shared_ptr<Call>& call, result<pb::Reply> reply) {
  result<Answer> answer = Answer{};
  if (reply) {
    answer.value().reply = std::move(reply.value());
    apply(table_, client_.session(), call->facts, answer.value());
  } else {
    answer = failure(reply.error());
    // It may have been made, or be made later.
    const bool unknown =
        !reply.error().is(Errc::no_space) && reply.error().code().category() == error_category();
    if (unknown)
      for (const auto& [directory, name] : call->facts.names)
        table_.forget_names(directory, {name});
  }
  table_.end_request(call->facts.ticket);
  std::unique_lock lock(call->mutex);
  if (call->given_up) {
    lock.unlock();
    if (answer) give_back(*call, answer.value());
    return;
  }
  if (call->done) {
    const auto done = std::exchange(call->done, nullptr);
    lock.unlock();
    done(std::move(answer));
    return;
  }
  call->answer.emplace(std::move(answer));
  call->answered.notify_all();
}

// What became of a request after its deadline.
void MetadataClient::known_late(Call& call, result<pb::Reply> reply) {
  if (reply) {
    Answer answer;
    answer.reply = std::move(reply.value());
    // Leases of so late a reply are not taken: a release sent meanwhile may have undone them.
    pb::Reply& late = answer.reply;
    if (late.has_attr()) {
      late.mutable_attr()->set_lease(pb::LEASE_NONE);
      late.mutable_attr()->set_parent_lease(pb::LEASE_NONE);
    }
    if (late.has_readdir()) {
      for (auto& item : *late.mutable_readdir()->mutable_items()) item.set_lease(pb::LEASE_NONE);
      late.mutable_readdir()->set_lease(pb::LEASE_NONE);
      late.mutable_readdir()->clear_below();
    }
    apply(table_, client_.session(), call.facts, answer);
    give_back(call, answer);
    return;
  }
  // An errno is the daemon's answer: nothing was changed.
  const bool may_have_happened = reply.error().is(Errc::unavailable);
  const RequestFacts& facts = call.facts;
  if (!may_have_happened || (facts.changed.empty() && !facts.altered)) return;
  const uint64_t session = client_.session();
  for (const InodeId directory : facts.changed) table_.mark_stale(directory, 0, session);
  for (const auto& [directory, name] : facts.names) table_.forget_names(directory, {name});
  if (facts.altered) table_.mark_stale(facts.altered, 0, session);
  if (facts.alters_unnamed)
    for (const auto& inode : table_.all()) table_.mark_stale(inode->ino, 0, session);
  Unwitnessed news{facts.changed, !facts.changed.empty(), facts.alters_unnamed};
  if (facts.altered) news.inodes.push_back(facts.altered);
  tell(news);
}

// The program has had its answer long ago, and later ones: the reply is not merged, since it is of
// a state in between. Whoever looks next asks the daemon.
void MetadataClient::redone(const pb::Request& request, result<pb::Reply> reply) {
  if (!reply) {
    Call call;
    call.facts = facts_of(request);
    return known_late(call, failure(Errc::unavailable, reply.error().message()));
  }
  const RequestFacts facts = facts_of(request);
  std::vector<InodeId> touched = facts.changed;
  if (facts.altered) touched.push_back(facts.altered);
  const InodeId named = reply.value().attr().inode().ino();
  if (named) touched.push_back(named);
  if (reply.value().has_rename()) {
    touched.push_back(reply.value().rename().moved().ino());
    if (reply.value().rename().has_replaced())
      touched.push_back(reply.value().rename().replaced().ino());
  }
  for (const InodeId ino : touched) table_.mark_stale(ino, 0, client_.session());
  // It counts as open at the daemon again.
  if (facts.open && named) table_.give_back(named);
}

// An answer that nobody waits for any more: what it pinned and opened is let go, and the kernel,
// whose caller saw an error, learns what has changed.
void MetadataClient::give_back(const Call& call, Answer& answer) {
  const RequestFacts& facts = call.facts;
  if (answer.pinned) {
    std::lock_guard lock(answer.inode->mutex);
    if (--answer.inode->users == 0) answer.inode->changed.notify_all();
  }
  std::vector<InodePtr> named = std::move(answer.entries);
  named.push_back(answer.inode);
  named.push_back(answer.replaced);
  Unwitnessed news{facts.changed, !facts.changed.empty(), false};
  if (facts.altered) news.inodes.push_back(facts.altered);
  for (const auto& inode : named) {
    if (!inode) continue;
    if (facts.open) table_.release_open_mark(inode);
    table_.release_if_unused(inode);
    if (news.entries) news.inodes.push_back(inode->ino);
  }
  if (facts.altered) table_.mark_stale(facts.altered, answer.reply.sequence(), client_.session());
  if (news.entries || facts.altered) tell(news);
}

void MetadataClient::on_unwitnessed(std::function<void(const Unwitnessed&)> listener) {
  std::lock_guard lock(unwitnessed_mutex_);
  unwitnessed_ = std::move(listener);
}

void MetadataClient::tell(const Unwitnessed& news) {
  std::lock_guard lock(unwitnessed_mutex_);
  if (unwitnessed_) unwitnessed_(news);
}

result<void> MetadataClient::run(pb::Request request) {
  TRY(auto answer, call(std::move(request)));
  (void)answer;
  return success();
}

bool MetadataClient::holds(const Inode& inode, pb::LeaseMode mode) const {
  return inode.lease >= mode && inode.lease_session == client_.session() &&
         monotonic_now() < client_.lease_end();
}

result<void> MetadataClient::ensure_lease(const InodePtr& inode, pb::LeaseMode mode, bool open,
                                          const std::function<void()>& behind) {
  const auto enough = [&] {
    std::lock_guard lock(inode->mutex);
    return holds(*inode, mode) && inode->attr_known && !inode->attr_stale &&
           (!open || inode->open_registered);
  };
  for (int attempt = 0; attempt < kLeaseAttemptsMax; ++attempt) {
    if (enough()) {
      if (attempt == 0 && behind) behind();
      return success();
    }
    if (attempt >= kLeaseAttemptsQuick) {
      TRY(sleep_interruptibly(milliseconds(1)));
    }
    pb::Request request = lease_request(inode->ino, mode, open);
    request.mutable_lease()->set_attributes(mode == pb::LEASE_READ);
    TRY(call(std::move(request), pb::LEASE_NONE, attempt == 0 ? behind : nullptr));
    std::lock_guard lock(inode->mutex);
    if (mode == pb::LEASE_READ && (!open || inode->open_registered)) return success();
  }
  return failure(unsteady(inode->ino));
}

result<void> MetadataClient::ensure_kept(const InodePtr& inode) {
  const auto kept = [&] {
    std::lock_guard lock(inode->mutex);
    return inode->open_registered || holds(*inode, pb::LEASE_READ);
  };
  if (kept()) return success();
  TRY(ensure_lease(inode, pb::LEASE_READ, false));
  if (kept()) return success();
  return ensure_lease(inode, pb::LEASE_READ, true);
}

void MetadataClient::hold_open(const InodePtr& inode) {
  {
    std::lock_guard lock(inode->mutex);
    if (inode->opens == 0 || inode->open_registered) return;
  }
  if (const auto done = run(lease_request(inode->ino, pb::LEASE_NONE, true)); !done)
    spdlog::warn("open inode {} is not kept if it is removed: {}", inode->ino,
                 done.error().message());
}

void MetadataClient::send_releases() {
  auto leases = table_.take_releases(512);
  if (leases.empty()) return;
  pb::Request request;
  for (const auto& held : leases) *request.mutable_release()->add_leases() = held;
  // A release that is lost costs the daemon memory until the session ends, nothing else.
  (void)run(std::move(request));
  table_.released(leases);
}

std::optional<UseGuard> UseGuard::acquire_held(MetadataClient& client, const InodePtr& inode,
                                               pb::LeaseMode mode) {
  std::lock_guard lock(inode->mutex);
  if (!client.holds(*inode, mode) || !inode->attr_known || inode->attr_stale) return std::nullopt;
  ++inode->users;
  if (inode->recalling) ++inode->served_while_recalled;
  return UseGuard(inode);
}

result<UseGuard> UseGuard::acquire(MetadataClient& client, const InodePtr& inode,
                                   pb::LeaseMode mode) {
  if (auto held = acquire_held(client, inode, mode)) return std::move(*held);
  const Asking asking(*inode);  // pauses included
  for (int attempt = 0; attempt < kLeaseAttemptsMax; ++attempt) {
    if (auto held = acquire_held(client, inode, mode)) return std::move(*held);
    if (attempt >= kLeaseAttemptsQuick) {
      TRY(sleep_interruptibly(milliseconds(1)));
    }
    auto answer = client.call(lease_request(inode->ino, mode, false), mode);
    if (!answer && answer.error().code() == std::errc::no_such_file_or_directory) {
      return failure(gone(inode->ino));
    }
    if (!answer) return failure(answer.error());
    if (answer.value().pinned) return UseGuard(answer.value().inode);
  }
  return failure(unsteady(inode->ino));
}

UseGuard::~UseGuard() {
  if (!inode_) return;
  std::lock_guard lock(inode_->mutex);
  if (--inode_->users == 0) inode_->changed.notify_all();
}

}  // namespace datacloud
