// The lease table's rules.
#include "daemon/sessions/lease_table.h"

#include <algorithm>

#include "common/base/check.h"
namespace datacloud {
namespace {

// More changed names than this for one holder: it forgets the directory altogether.
constexpr size_t kNamesMax = 256;

// What a peer sent may be any number.
pb::LeaseMode checked(pb::LeaseMode mode) {
  return pb::LeaseMode_IsValid(mode) ? mode : pb::LEASE_NONE;
}

}  // namespace

LeaseTable::Holder* LeaseTable::find(InodeLeases& leases, SessionId session) {
  for (auto& holder : leases.holders) {
    if (holder.session == session) return &holder;
  }
  return nullptr;
}

bool LeaseTable::conflicts(const InodeLeases& leases, SessionId session, pb::LeaseMode others) {
  return std::any_of(leases.holders.begin(), leases.holders.end(), [&](const Holder& holder) {
    return holder.session != session && holder.mode > others;
  });
}

// Two caches of one inode must never both believe to be right.
void LeaseTable::check_exclusive(const InodeLeases& leases, const Holder& holder) {
  if (holder.mode == pb::LEASE_NONE) return;
  const auto others = holder.mode == pb::LEASE_WRITE ? pb::LEASE_NONE : pb::LEASE_READ;
  DC_CHECK(!conflicts(leases, holder.session, others), "a lease beside another's write lease");
}

// What a holder may rely on: a recall on its way counts as arrived.
pb::LeaseMode LeaseTable::usable(const Holder& holder) {
  if (!holder.recall) return holder.mode;
  auto mode = std::min(holder.mode, holder.recall->mode);
  return holder.recall->again ? std::min(mode, holder.recall->next_mode) : mode;
}

bool LeaseTable::admits(SessionId session, InodeId ino, pb::LeaseMode others) const {
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return true;
  return !it->second.queue && !conflicts(it->second, session, others);
}

void LeaseTable::wait(SessionId session, InodeId ino, pb::LeaseMode others, Continuation ready,
                      Wants wants) {
  InodeLeases& leases = inodes_[ino];
  if (!leases.queue) leases.queue = std::make_unique<std::deque<Waiter>>();
  leases.queue->push_back({session, others, std::move(ready), wants});
  ++waiting_;
  if (leases.queue->size() == 1) examine_.push_back(ino);
}

LeaseTable::Holder* LeaseTable::find_or_add(InodeId ino, SessionId session) {
  if (const auto it = inodes_.find(ino); it != inodes_.end()) {
    if (Holder* holder = find(it->second, session)) return holder;
  }
  if (size_ >= leases_max_) return nullptr;
  auto& holders = inodes_[ino].holders;
  holders.push_back({});
  holders.back().session = session;
  ++size_;
  ++count_of_[session];
  return &holders.back();
}

pb::LeaseMode LeaseTable::grant(SessionId session, InodeId ino, pb::LeaseMode mode, bool open) {
  if (const auto it = inodes_.find(ino); it != inodes_.end()) {
    const auto& leases = it->second;
    if (mode == pb::LEASE_WRITE && conflicts(leases, session, pb::LEASE_NONE)) {
      mode = pb::LEASE_READ;
    }
    if (mode == pb::LEASE_READ && conflicts(leases, session, pb::LEASE_READ)) mode = pb::LEASE_NONE;
  }
  if (mode == pb::LEASE_NONE && !open) return usable_by(session, ino);
  Holder* holder = find_or_add(ino, session);
  if (holder == nullptr) return pb::LEASE_NONE;
  holder->open = holder->open || open;
  // While a recall is under way nothing is raised: its answer would take it away again.
  if (!holder->recall) holder->mode = std::max(holder->mode, mode);
  check_exclusive(inodes_[ino], *holder);
  return usable(*holder);
}

pb::LeaseMode LeaseTable::offer(SessionId session, InodeId ino, pb::LeaseMode mode) {
  const auto it = inodes_.find(ino);
  if (it != inodes_.end() && it->second.queue) return usable_by(session, ino);
  return grant(session, ino, mode, false);
}

bool LeaseTable::has_room(SessionId session, InodeId ino) const {
  if (size_ < leases_max_) return true;
  const auto it = inodes_.find(ino);
  return it != inodes_.end() && find(const_cast<InodeLeases&>(it->second), session) != nullptr;
}

bool LeaseTable::adopt(SessionId session, const pb::HeldLease& claimed) {
  const pb::LeaseMode mode = checked(claimed.mode());
  if (mode == pb::LEASE_NONE && !claimed.open()) return true;
  if (!has_room(session, claimed.ino())) return false;
  const pb::LeaseMode got = grant(session, claimed.ino(), mode, claimed.open());
  if (got >= mode) return true;
  Holder* holder = find_or_add(claimed.ino(), session);
  if (holder == nullptr) return false;
  if (!holder->recall) request_recall(claimed.ino(), *holder, got, {}, nullptr);
  return true;
}

void LeaseTable::send(InodeId ino, Holder& holder, pb::LeaseMode mode,
                      std::vector<std::string> names) {
  Recall recall{++last_recall_, holder.session, ino, mode, std::move(names)};
  holder.recall->id = recall.id;
  holder.recall->mode = mode;
  in_flight_[recall.id] = recall;
  ++unanswered_[holder.session];
  outbox_.push_back(std::move(recall));
}

void LeaseTable::request_recall(InodeId ino, Holder& holder, pb::LeaseMode mode,
                                std::vector<std::string> names, const NoticePtr& notice) {
  if (!holder.recall) {
    holder.recall = std::make_unique<Outstanding>();
    if (notice) holder.recall->notices.push_back(notice);
    send(ino, holder, mode, std::move(names));
    return;
  }
  Outstanding& recall = *holder.recall;
  // Something that has changed since the recall in flight was sent must be said again.
  if (!notice && usable(holder) <= mode) return;
  recall.again = true;
  recall.next_mode = std::min(recall.next_mode, mode);
  if (notice) recall.next_notices.push_back(notice);
  if (!names.empty() || mode != pb::LEASE_READ) {
    for (auto& name : names) recall.next_names.push_back(std::move(name));
    if (recall.next_names.size() > kNamesMax) recall.next_mode = pb::LEASE_NONE;
    if (recall.next_mode == pb::LEASE_NONE) recall.next_names.clear();
  }
  say_more(ino, holder);
}

// Who has put off a recall, perhaps for long, is sent what else is wanted in place of it.
void LeaseTable::say_more(InodeId ino, Holder& holder) {
  Outstanding& recall = *holder.recall;
  if (!recall.unwritten || !recall.again) return;
  in_flight_.erase(recall.id);
  answered(holder.session);
  recall.again = false;
  for (auto& notice : recall.next_notices) recall.notices.push_back(std::move(notice));
  recall.next_notices.clear();
  const auto mode = std::min(recall.mode, std::exchange(recall.next_mode, pb::LEASE_WRITE));
  send(ino, holder, mode, std::exchange(recall.next_names, {}));
}

void LeaseTable::answered(SessionId session) {
  const auto count = unanswered_.find(session);
  if (count != unanswered_.end() && --count->second == 0) unanswered_.erase(count);
}

void LeaseTable::put_off(SessionId session, uint64_t recall_id, pb::Inode attributes) {
  const auto recall = in_flight_.find(recall_id);
  if (recall == in_flight_.end() || recall->second.session != session) return;
  const InodeId ino = recall->second.ino;
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  Holder* holder = find(it->second, session);
  if (holder == nullptr || !holder->recall || holder->recall->id != recall_id) return;
  if (holder->mode != pb::LEASE_WRITE) return;
  holder->recall->unwritten = std::make_unique<pb::Inode>(std::move(attributes));
  complete(holder->recall->notices);
  say_more(ino, *holder);
  auto& queue = it->second.queue;
  if (!queue) return;
  for (auto& waiter : *queue) {
    if (waiter.wants == Wants::attributes) ready_.push_back(std::move(waiter.ready));
  }
  waiting_ -= std::erase_if(*queue, [](const Waiter& w) { return w.wants == Wants::attributes; });
  if (queue->empty()) queue.reset();
  examine_.push_back(ino);  // another waiter may be the first now
}

LeaseTable::Unwritten LeaseTable::unwritten(InodeId ino) const {
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return {};
  for (const auto& holder : it->second.holders) {
    if (holder.mode == pb::LEASE_WRITE && holder.recall && holder.recall->unwritten) {
      return {holder.session, holder.recall->unwritten.get()};
    }
  }
  return {};
}

void LeaseTable::notify(SessionId author, InodeId ino, pb::LeaseMode keep,
                        std::vector<std::string> names, NoticePtr& notice) {
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  for (auto& holder : it->second.holders) {
    if (holder.session == author) continue;
    if (holder.mode == pb::LEASE_NONE) continue;
    if (names.empty() && holder.mode <= keep) continue;
    if (!notice) notice = std::make_shared<Notice>();
    ++notice->outstanding;
    request_recall(ino, holder, keep, names, notice);
  }
}

void LeaseTable::recall(SessionId session, InodeId ino, pb::LeaseMode mode) {
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  Holder* holder = find(it->second, session);
  if (holder != nullptr && usable(*holder) > mode) request_recall(ino, *holder, mode, {}, nullptr);
}

void LeaseTable::complete(std::vector<NoticePtr>& notices) {
  for (auto& notice : notices) {
    DC_CHECK(notice->outstanding > 0);
    if (--notice->outstanding == 0 && notice->done) ready_.push_back(std::move(notice->done));
  }
  notices.clear();
}

void LeaseTable::recall_done(SessionId session, uint64_t recall_id) {
  const auto recall = in_flight_.find(recall_id);
  if (recall == in_flight_.end() || recall->second.session != session) return;
  const InodeId ino = recall->second.ino;
  in_flight_.erase(recall);
  answered(session);
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  Holder* holder = find(it->second, session);
  if (holder == nullptr || !holder->recall || holder->recall->id != recall_id) return;
  holder->mode = std::min(holder->mode, holder->recall->mode);
  const auto done = std::move(holder->recall);
  complete(done->notices);
  if (done->again) {
    const bool needless = holder->mode == pb::LEASE_NONE ||
                          (done->next_names.empty() && holder->mode <= done->next_mode);
    if (needless) {
      complete(done->next_notices);
    } else {
      holder->recall = std::make_unique<Outstanding>();
      holder->recall->notices = std::move(done->next_notices);
      send(ino, *holder, done->next_mode, std::move(done->next_names));
    }
  }
  drop_if_nothing(ino, session);
  after_change(ino);
}

void LeaseTable::release(SessionId session, const pb::HeldLease& remains) {
  const auto it = inodes_.find(remains.ino());
  if (it == inodes_.end()) return;
  Holder* holder = find(it->second, session);
  if (holder == nullptr) return;
  holder->mode = std::min(holder->mode, checked(remains.mode()));
  holder->open = holder->open && remains.open();
  drop_if_nothing(remains.ino(), session);
  after_change(remains.ino());
}

void LeaseTable::erased_holder(SessionId session) {
  const auto count = count_of_.find(session);
  DC_CHECK(size_ > 0 && count != count_of_.end(), "a lease is dropped that was never counted");
  --size_;
  if (--count->second == 0) count_of_.erase(count);
}

void LeaseTable::drop_if_nothing(InodeId ino, SessionId session) {
  const auto it = inodes_.find(ino);
  auto& holders = it->second.holders;
  for (auto h = holders.begin(); h != holders.end(); ++h) {
    if (h->session != session) continue;
    if (h->mode != pb::LEASE_NONE || h->open || h->recall) return;
    holders.erase(h);
    erased_holder(session);
    return;
  }
}

// Waiters may go on; an inode nobody holds or waits for is forgotten.
void LeaseTable::after_change(InodeId ino) {
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return;
  if (it->second.queue) examine_.push_back(ino);
  const bool nobody = it->second.holders.empty();
  if (nobody && !it->second.queue) inodes_.erase(it);
  if ((nobody || unheld(ino)) && on_unheld_) on_unheld_(ino);
}

bool LeaseTable::unheld(InodeId ino) const {
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return true;
  return std::all_of(it->second.holders.begin(), it->second.holders.end(),
                     [](const Holder& h) { return h.mode == pb::LEASE_NONE && !h.open; });
}

void LeaseTable::end_session(SessionId session) {
  std::vector<InodeId> touched;
  for (auto& [ino, leases] : inodes_) {
    bool changed = false;
    if (leases.queue) {
      const size_t before = leases.queue->size();
      std::erase_if(*leases.queue, [&](const Waiter& w) { return w.session == session; });
      waiting_ -= before - leases.queue->size();
      changed = before != leases.queue->size();
      if (leases.queue->empty()) leases.queue.reset();
    }
    for (auto h = leases.holders.begin(); h != leases.holders.end(); ++h) {
      if (h->session != session) continue;
      if (h->recall) {
        complete(h->recall->notices);
        complete(h->recall->next_notices);
      }
      leases.holders.erase(h);
      erased_holder(session);
      changed = true;
      break;
    }
    if (changed) touched.push_back(ino);
  }
  std::erase_if(in_flight_, [&](const auto& r) { return r.second.session == session; });
  unanswered_.erase(session);
  std::erase_if(outbox_, [&](const Recall& r) { return r.session == session; });
  for (const InodeId ino : touched) after_change(ino);
}

std::vector<LeaseTable::Recall> LeaseTable::take_recalls() { return std::exchange(outbox_, {}); }

std::vector<LeaseTable::Recall> LeaseTable::recalls_of(SessionId session) const {
  std::vector<Recall> recalls;
  for (const auto& [id, recall] : in_flight_) {
    if (recall.session == session) recalls.push_back(recall);
  }
  std::sort(recalls.begin(), recalls.end(),
            [](const Recall& a, const Recall& b) { return a.id < b.id; });
  return recalls;
}

size_t LeaseTable::recalls_unanswered(SessionId session) const {
  const auto it = unanswered_.find(session);
  return it == unanswered_.end() ? 0 : it->second;
}

LeaseTable::Continuation LeaseTable::next_ready() {
  if (!ready_.empty()) {
    Continuation next = std::move(ready_.front());
    ready_.pop_front();
    return next;
  }
  while (!examine_.empty()) {
    const InodeId ino = examine_.front();
    examine_.pop_front();
    const auto it = inodes_.find(ino);
    if (it == inodes_.end() || !it->second.queue) continue;
    auto& queue = *it->second.queue;
    DC_CHECK(!queue.empty() && waiting_ > 0);
    Waiter& head = queue.front();
    if (conflicts(it->second, head.session, head.others)) {
      for (auto& holder : it->second.holders) {
        if (holder.session != head.session && holder.mode > head.others) {
          request_recall(ino, holder, head.others, {}, nullptr);
        }
      }
      continue;
    }
    Continuation next = std::move(head.ready);
    queue.pop_front();
    --waiting_;
    if (queue.empty()) {
      it->second.queue.reset();
      if (it->second.holders.empty()) inodes_.erase(it);
    } else {
      examine_.push_back(ino);
    }
    return next;
  }
  return nullptr;
}

pb::LeaseMode LeaseTable::usable_by(SessionId session, InodeId ino) {
  const auto it = inodes_.find(ino);
  const Holder* holder = it == inodes_.end() ? nullptr : find(it->second, session);
  return holder == nullptr ? pb::LEASE_NONE : usable(*holder);
}

pb::LeaseMode LeaseTable::held(SessionId session, InodeId ino) const {
  const auto it = inodes_.find(ino);
  if (it == inodes_.end()) return pb::LEASE_NONE;
  const Holder* holder = find(const_cast<InodeLeases&>(it->second), session);
  return holder == nullptr ? pb::LEASE_NONE : holder->mode;
}

size_t LeaseTable::leases_of(SessionId session) const {
  const auto it = count_of_.find(session);
  return it == count_of_.end() ? 0 : it->second;
}

}  // namespace datacloud
