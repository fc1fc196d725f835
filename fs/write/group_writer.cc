// Joining, adding up, and the row's own put and commit.
#include "fs/write/group_writer.h"

#include <algorithm>
#include <random>
#include <utility>

#include "common/base/log.h"

namespace datacloud {
namespace {

constexpr size_t kGroupsMax = 3;
constexpr Duration kIdleMax = seconds(10);  // an open group nothing joins any more

// The daemon has not taken the row, and never will.
bool certainly_refused(const Error& e) {
  return e.is(Errc::stale) || e.is(Errc::invalid) || e.is(Errc::unsupported) || e.is(Errc::revoked);
}

}  // namespace

class GroupWriter::Group {
 public:
  Group(Shape s, std::string from, uint64_t n)
      : shape(std::move(s)), stream(std::move(from)), number(n), members(shape.members) {
    sums_.resize(static_cast<size_t>(shape.code->n()));
  }

  const Shape shape;
  const std::string stream;
  const uint64_t number;
  // Under the writer's lock:
  size_t joined = 0, done = 0;
  std::vector<StripeId> members;
  bool over = false;

  void add(const BuiltStripe& stripe) {
    std::lock_guard lock(mutex_);
    if (sums_.empty()) return;
    parity_bytes_ = std::max(parity_bytes_, stripe.layout.parity_length);
    for (size_t c = 0; c < sums_.size(); ++c) {
      const Payload& column = stripe.columns[c];
      if (column.size() > sums_[c].size()) sums_[c].resize(column.size());
      size_t offset = 0;
      for (const ByteView part : column.parts) {
        ErasureCode::apply_delta(part, MutableByteView(sums_[c]).subspan(offset, part.size()));
        offset += part.size();
      }
    }
  }
  void drop() {
    std::lock_guard lock(mutex_);
    sums_ = {};
  }
  BuiltStripe take() {
    std::lock_guard lock(mutex_);
    BuiltStripe row;
    row.layout.parity_length = parity_bytes_;
    for (auto& sum : std::exchange(sums_, {})) {
      row.columns.push_back(sum.empty() ? Payload() : Payload::from(std::move(sum)));
    }
    return row;
  }

 private:
  std::mutex mutex_;
  std::vector<Bytes> sums_;  // by column; empty once given away or up
  uint32_t parity_bytes_ = 0;
};

uint64_t GroupWriter::Place::number() const { return group->number; }

// Numbers begin anywhere, so that the groups of many short-lived mounts are spread evenly, too.
GroupWriter::GroupWriter(Dependencies d) : d_(std::move(d)), next_number_(std::random_device{}()) {}
GroupWriter::~GroupWriter() = default;

GroupWriter::Place GroupWriter::join(const std::string& stream, const Shape& shape, bool may_wait) {
  std::unique_lock lock(mutex_);
  auto it = open_.find(stream);
  if (it == open_.end()) {
    if (!make_room(lock, may_wait)) return {};
    ++groups_;
    it = open_.emplace(stream, std::make_shared<Group>(shape, stream, next_number_++)).first;
  }
  const GroupPtr group = it->second;
  const size_t index = group->joined++;
  if (group->joined == group->shape.members) open_.erase(it);
  d_.puts->timers->after(kIdleMax, [this, weak = std::weak_ptr(group), joined = group->joined] {
    drop_if_idle(weak, joined);
  });
  return {group, index};
}

bool GroupWriter::make_room(std::unique_lock<std::mutex>& lock, bool may_wait) {
  while (groups_ >= kGroupsMax) {
    if (!open_.empty()) {
      end_locked(open_.begin()->second);
    } else if (may_wait) {
      changed_.wait(lock);
    } else {
      return false;
    }
  }
  return true;
}

void GroupWriter::end_locked(GroupPtr group) {
  if (std::exchange(group->over, true)) return;
  const auto it = open_.find(group->stream);
  if (it != open_.end() && it->second == group) open_.erase(it);
  group->drop();
  --groups_;
  changed_.notify_all();
}

void GroupWriter::end(const GroupPtr& group) {
  std::lock_guard lock(mutex_);
  end_locked(group);
}

void GroupWriter::drop_if_idle(const std::weak_ptr<Group>& weak, size_t joined) {
  const auto group = weak.lock();
  if (!group) return;
  std::lock_guard lock(mutex_);
  const auto it = open_.find(group->stream);
  if (it != open_.end() && it->second == group && group->joined == joined) end_locked(group);
}

void GroupWriter::add(const Place& place, const BuiltStripe& stripe) {
  if (place) place.group->add(stripe);
}

void GroupWriter::give_up(const Place& place) {
  if (place) end(place.group);
}

void GroupWriter::committed(const Place& place, StripeId stripe) {
  if (!place) return;
  const GroupPtr& group = place.group;
  std::lock_guard lock(mutex_);
  if (group->over) return;
  group->members[place.index] = stripe;
  if (++group->done < group->shape.members) return;
  d_.work.post([this, group] { put_row(group); });
}

void GroupWriter::put_row(const GroupPtr& group) {
  BuiltStripe row = group->take();
  if (row.columns.empty()) return end(group);
  auto done = [this, group](result<pb::Stripe> put) {
    d_.work.post([this, group, put = std::move(put)]() mutable {
      if (put) return commit_row(group, std::move(put.value()));
      spdlog::warn("the XOR row of {} stripes could not be written: {}", group->shape.members,
                   put.error().message());
      end(group);
    });
  };
  const StripePlace place{.rotation = group->number,
                          .home_site = group->shape.home_site,
                          .shard_bytes = group->shape.shard_bytes};
  std::make_shared<StripePutter>(d_.puts, group->shape.code, std::move(row), Urgency::batch,
                                 std::move(done), place)
      ->start();
}

void GroupWriter::commit_row(const GroupPtr& group, pb::Stripe row) {
  for (const StripeId member : group->members) row.add_members(member);
  pb::Request request;
  *request.mutable_commit()->add_stripes() = row;
  d_.client.call(std::move(request), [this, group, row = std::move(row)](result<pb::Reply> reply) {
    d_.work.post([this, group, row, reply = std::move(reply)] {
      if (reply) {
        ++d_.puts->counters.rows;
      } else {
        spdlog::warn("the XOR row of {} stripes was not committed: {}", group->shape.members,
                     reply.error().message());
        if (certainly_refused(reply.error())) d_.puts->abandoned->add(row);
      }
      end(group);
    });
  });
}

void GroupWriter::wait_idle() {
  std::unique_lock lock(mutex_);
  while (!open_.empty()) end_locked(open_.begin()->second);
  changed_.wait(lock, [&] { return groups_ == 0; });
}

}  // namespace datacloud
