// Deficit round robin over clients, round robin over a client's connections (rpc_turns.h).
#include "common/rpc/rpc_turns.h"

#include <algorithm>
#include <utility>

namespace datacloud {

struct RpcTurns::Item {
  pb::Request request;
  uint64_t bytes = 0;
  MonotonicTime came{};
  bool end = false;  // of the connection, instead of a request
};

class RpcTurns::Source {
 public:
  std::shared_ptr<Client> client;
  std::shared_ptr<RpcConnection> connection;
  std::function<void()> resume;
  std::deque<Item> items;
  uint64_t bytes = 0;
  bool paused = false, closed = false;
};

struct RpcTurns::Client {
  std::string name;
  std::deque<std::shared_ptr<Source>> waiting;  // connections with requests, the next first
  size_t sources = 0, requests = 0;
  uint64_t bytes = 0;
  Duration credit{};       // less than zero: a debt
  uint64_t credit_of = 0;  // idle_times_ when it was counted
  bool in_turn = false;    // its turn has begun
};

struct RpcTurns::Taken {
  std::shared_ptr<Client> client;
  std::shared_ptr<RpcConnection> connection;
  Item item;
};

RpcTurns::RpcTurns(RpcService& service, std::function<void()> wake, RpcTurnsLimits limits,
                   std::function<MonotonicTime()> now)
    : service_(service), wake_(std::move(wake)), limits_(limits), now_(std::move(now)) {}

RpcTurns::~RpcTurns() = default;

std::shared_ptr<RpcTurns::Source> RpcTurns::open(const std::string& client,
                                                 std::shared_ptr<RpcConnection> connection,
                                                 std::function<void()> resume) {
  auto source = std::make_shared<Source>();
  source->connection = std::move(connection);
  source->resume = std::move(resume);
  std::lock_guard lock(mutex_);
  auto& known = clients_[client];
  if (!known) {
    known = std::make_shared<Client>();
    known->name = client;
  }
  ++known->sources;
  source->client = known;
  return source;
}

bool RpcTurns::has_room(const Source& source) const {
  const Client& client = *source.client;
  return source.items.empty() || (source.items.size() < limits_.requests_of_connection &&
                                  source.bytes < limits_.bytes_of_connection &&
                                  client.requests < limits_.requests_of_client &&
                                  client.bytes < limits_.bytes_of_client && bytes_ < limits_.bytes);
}

void RpcTurns::append(const std::shared_ptr<Source>& source, Item item) {
  Client& client = *source->client;
  source->bytes += item.bytes;
  client.bytes += item.bytes;
  bytes_ += item.bytes;
  if (!item.end) {
    ++client.requests;
    ++stats_.requests_waiting;
  }
  if (source->items.empty()) {
    if (client.waiting.empty()) waiting_.push_back(source->client);
    client.waiting.push_back(source);
  }
  source->items.push_back(std::move(item));
}

bool RpcTurns::add(const std::shared_ptr<Source>& source, pb::Request request, uint64_t bytes) {
  std::unique_lock lock(mutex_);
  if (source->closed) return false;
  append(source, {std::move(request), bytes, now_(), false});
  const bool more = has_room(*source);
  if (!more && !std::exchange(source->paused, true)) ++stats_.connections_paused;
  const bool asleep = !std::exchange(awake_, true);
  lock.unlock();
  if (asleep) wake_();
  return more;
}

void RpcTurns::close(const std::shared_ptr<Source>& source) {
  std::unique_lock lock(mutex_);
  if (std::exchange(source->closed, true)) return;
  source->resume = nullptr;
  if (std::exchange(source->paused, false)) --stats_.connections_paused;
  append(source, {{}, 0, now_(), true});
  const bool asleep = !std::exchange(awake_, true);
  lock.unlock();
  if (asleep) wake_();
}

void RpcTurns::maybe_resume(Source& source) {
  if (!source.paused || !has_room(source)) return;
  source.paused = false;
  --stats_.connections_paused;
  if (source.resume) source.resume();
}

bool RpcTurns::take(Taken& taken) {
  std::lock_guard lock(mutex_);
  for (;;) {
    if (waiting_.empty()) {
      ++idle_times_;
      awake_ = false;
      return false;
    }
    Client& client = *waiting_.front();
    if (std::exchange(client.credit_of, idle_times_) != idle_times_) client.credit = {};
    if (!std::exchange(client.in_turn, true)) client.credit += kTurnQuantum;
    if (client.credit > Duration::zero()) break;
    client.in_turn = false;  // its turn is over
    waiting_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  taken.client = waiting_.front();
  Client& client = *taken.client;
  const auto source = client.waiting.front();
  client.waiting.pop_front();
  taken.connection = source->connection;
  taken.item = std::move(source->items.front());
  source->items.pop_front();
  source->bytes -= taken.item.bytes;
  client.bytes -= taken.item.bytes;
  bytes_ -= taken.item.bytes;
  if (!source->items.empty()) client.waiting.push_back(source);
  if (client.waiting.empty()) {
    client.in_turn = false;
    client.credit = std::min(client.credit, Duration::zero());
    waiting_.pop_front();
  }
  if (taken.item.end) {
    source->connection.reset();
    if (--client.sources == 0) clients_.erase(client.name);
    return true;
  }
  --client.requests;
  --stats_.requests_waiting;
  maybe_resume(*source);
  for (const auto& other : client.waiting) maybe_resume(*other);
  return true;
}

void RpcTurns::served(const Taken& taken, MonotonicTime began, MonotonicTime ended) {
  std::lock_guard lock(mutex_);
  Client& client = *taken.client;
  client.credit = std::max<Duration>(client.credit - (ended - began), -kTurnDebtMax);
  if (taken.item.end) return;
  ++stats_.requests_served;
  stats_.waited += began - taken.item.came;
  stats_.served += ended - began;
}

bool RpcTurns::serve(Duration slice) {
  const auto stop_at = now_() + slice;
  for (;;) {
    Taken taken;
    if (!take(taken)) return false;
    const auto began = now_();
    if (taken.item.end)
      service_.on_disconnect(taken.connection);
    else
      service_.on_request(taken.connection, std::move(taken.item.request));
    const auto ended = now_();
    served(taken, began, ended);
    if (ended >= stop_at) return true;
  }
}

void RpcTurns::add_to(RpcServerStats& stats) const {
  std::lock_guard lock(mutex_);
  stats.requests_waiting = stats_.requests_waiting;
  stats.connections_paused = stats_.connections_paused;
  stats.requests_served = stats_.requests_served;
  stats.waited = stats_.waited;
  stats.served = stats_.served;
  stats.bytes_waiting = bytes_;
}

}  // namespace datacloud
