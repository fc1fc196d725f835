// See leader_watch.h.
#include "daemon/leadership/leader_watch.h"

#include <algorithm>
#include <tuple>

namespace datacloud {

void LeaderWatch::lives(MonotonicTime now) {
  sign_ = std::max(sign_, now);
  refused_.reset();
  refused_again_.reset();
}

void LeaderWatch::refused(MonotonicTime now) {
  if (!refused_) {
    refused_ = now;
  } else if (!refused_again_ && now - *refused_ >= rules_.refused) {
    refused_again_ = now;
  }
}

void LeaderWatch::be_patient(Duration silence) {
  patience_ = silence;
  refused_.reset();
  refused_again_.reset();
}

std::optional<MonotonicTime> LeaderWatch::dead_since(MonotonicTime now) const {
  const MonotonicTime silent = sign_ + patience_.value_or(rules_.silence);
  if (refused_again_) return std::min(*refused_again_, silent);
  if (now >= silent) return silent;
  return std::nullopt;
}

bool LeaderWatch::due(size_t rank, MonotonicTime now) const {
  const auto since = dead_since(now);
  return since && now - *since >= static_cast<int>(rank) * rules_.turn;
}

std::optional<size_t> succession_rank(const pb::Leadership& record, const std::string& name) {
  const pb::Leadership::Daemon* own = nullptr;
  for (const auto& daemon : record.daemons()) {
    if (daemon.name() == name) own = &daemon;
  }
  if (own == nullptr) return std::nullopt;
  size_t rank = 0;
  for (const auto& daemon : record.daemons()) {
    if (daemon.name() == name || daemon.name() == record.leader()) continue;
    const auto place = [](const auto& d) { return std::tuple(d.order(), d.name()); };
    rank += place(daemon) < place(*own) ? 1 : 0;
  }
  return rank;
}

}  // namespace datacloud
