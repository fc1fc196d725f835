// Whose turn it is: requests of a connection in order, connections and clients in turn, by what
// their requests cost; and bounds that shut nobody out.
#include "common/rpc/rpc_turns.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <functional>
#include <map>
#include <thread>
#include <utility>
#include <vector>

namespace datacloud {
namespace {

class Peer final : public RpcConnection {
 public:
  explicit Peer(char name) : name_(name) {}
  const PeerCredentials& peer() const override { return credentials_; }
  void reply(pb::Reply) override {}
  void reply_with(std::function<pb::Reply()>) override {}
  void push(const pb::Push&) override {}
  void close() override {}
  char name() const { return name_; }

 private:
  const char name_;
  const PeerCredentials credentials_;
};

class TurnsTest : public ::testing::Test, public RpcService {
 protected:
  struct Connection {
    std::shared_ptr<Peer> peer;
    std::shared_ptr<RpcTurns::Source> source;
    int resumed = 0;
  };

  void on_request(std::shared_ptr<RpcConnection> connection, pb::Request request) override {
    const char name = static_cast<Peer&>(*connection).name();
    order_ += name;
    EXPECT_GT(request.id(), last_[name]) << "in the order of their arrival";
    last_[name] = request.id();
    now_ += cost_.contains(name) ? cost_[name] : std::chrono::microseconds(10);
    if (then_) then_();
  }
  void on_disconnect(std::shared_ptr<RpcConnection> connection) override {
    order_ += static_cast<char>(std::toupper(static_cast<Peer&>(*connection).name()));
  }

  std::shared_ptr<Connection> connect(char name, const std::string& client) {
    auto made = std::make_shared<Connection>();
    made->peer = std::make_shared<Peer>(name);
    made->source = turns_.open(client, made->peer, [raw = made.get()] { ++raw->resumed; });
    return made;
  }
  bool add(const std::shared_ptr<Connection>& to, int count = 1, uint64_t bytes = 100) {
    bool more = true;
    for (int i = 0; i < count; ++i) {
      pb::Request request;
      request.set_id(++next_id_);
      more = turns_.add(to->source, std::move(request), bytes);
    }
    return more;
  }
  std::string serve_all() {
    while (turns_.serve()) {
    }
    return std::exchange(order_, {});
  }
  RpcServerStats stats() const {
    RpcServerStats stats;
    turns_.add_to(stats);
    return stats;
  }

  MonotonicTime now_{};
  std::map<char, Duration> cost_;
  std::function<void()> then_;
  int woken_ = 0;
  RpcTurnsLimits limits_{.requests_of_connection = 8,
                         .bytes_of_connection = 1000,
                         .requests_of_client = 12,
                         .bytes_of_client = 1500,
                         .bytes = 3000};
  RpcTurns turns_{*this, [this] { ++woken_; }, limits_, [this] { return now_; }};
  std::string order_;
  std::map<char, uint64_t> last_;
  uint64_t next_id_ = 0;
};

TEST_F(TurnsTest, ClientsTakeTurnsWhoeverHasMoreRequestsOrConnections) {
  cost_ = {{'a', kTurnQuantum}, {'b', kTurnQuantum}, {'c', kTurnQuantum}};
  const auto a = connect('a', "one"), b = connect('b', "one"), c = connect('c', "two");
  add(a, 4);
  add(b, 2);
  add(c, 4);
  // "one" has half the time, for both of its connections together.
  EXPECT_EQ(serve_all(), "acbcacbcaa");
}

TEST_F(TurnsTest, TimeIsShared) {
  cost_ = {{'a', milliseconds(2)}, {'b', std::chrono::microseconds(100)}};
  const auto a = connect('a', "one"), b = connect('b', "two");
  add(a, 3);
  add(b, 8);
  then_ = [&, added = 0]() mutable {
    if (order_.back() == 'b' && added++ < 40) add(b);
  };
  const std::string order = serve_all();
  // Two milliseconds of "one" stand against two of "two": twenty requests.
  const size_t second = order.find('a', 1), third = order.find('a', second + 1);
  EXPECT_EQ(order[0], 'a');
  EXPECT_GE(second - 1, 15u) << order;
  EXPECT_LE(second - 1, 25u) << order;
  EXPECT_GE(third - second, 15u) << order;
}

TEST_F(TurnsTest, ARequestWaitsForOneOfEachOtherClientAndAQuantum) {
  std::vector<std::shared_ptr<Connection>> crowd;
  for (char name = 'c'; name <= 'h'; ++name) {
    cost_[name] = std::chrono::microseconds(300);
    crowd.push_back(connect(name, std::string(1, name)));
    add(crowd.back(), 8);
  }
  const auto b = connect('b', "b");
  add(b);
  const std::string order = serve_all();
  EXPECT_LE(order.find('b'), 2 * crowd.size()) << order;
}

TEST_F(TurnsTest, DebtsEndWhenNobodyWaits) {
  cost_ = {{'a', milliseconds(9)}};
  const auto a = connect('a', "one"), b = connect('b', "two");
  add(a);
  (void)serve_all();
  cost_.clear();
  add(a);
  add(b);
  EXPECT_EQ(serve_all(), "ab");
}

TEST_F(TurnsTest, OneServingAtATimeIsAskedFor) {
  const auto a = connect('a', "one");
  add(a, 3);
  EXPECT_EQ(woken_, 1);
  then_ = [&, once = true]() mutable {
    if (std::exchange(once, false)) add(a, 2);
  };
  EXPECT_EQ(serve_all(), "aaaaa");
  EXPECT_EQ(woken_, 1);
  add(a);
  EXPECT_EQ(woken_, 2);
}

TEST_F(TurnsTest, AfterASliceOthersHaveTheThread) {
  cost_ = {{'a', milliseconds(1)}};
  const auto a = connect('a', "one");
  add(a, 5);
  EXPECT_TRUE(turns_.serve());
  EXPECT_EQ(order_, "aa");
  EXPECT_EQ(serve_all(), "aaaaa");
}

TEST_F(TurnsTest, WhatWasSentBeforeTheEndIsServedFirst) {
  const auto a = connect('a', "one"), b = connect('b', "two");
  add(a, 2);
  turns_.close(a->source);
  turns_.close(a->source);
  EXPECT_FALSE(add(a)) << "nothing comes after the end";
  add(b);
  const std::string order = serve_all();
  EXPECT_EQ(order.find("aaA") == std::string::npos && order.find("aabA") == std::string::npos,
            false)
      << order;
  EXPECT_EQ(std::count(order.begin(), order.end(), 'A'), 1);
}

TEST_F(TurnsTest, WhoSendsTooMuchIsNotReadFromUntilItsRequestsAreServed) {
  const auto a = connect('a', "one"), b = connect('b', "one"), c = connect('c', "two");
  EXPECT_TRUE(add(a, 7, 10));
  EXPECT_FALSE(add(a, 1, 10)) << "requests of a connection";
  EXPECT_TRUE(add(b, 3, 10));
  EXPECT_FALSE(add(b, 1, 10)) << "requests of a client";
  EXPECT_TRUE(add(c, 1, 10));
  EXPECT_FALSE(add(c, 1, 1000)) << "bytes of a connection";
  EXPECT_EQ(stats().connections_paused, 3u);
  EXPECT_EQ(stats().requests_waiting, 14u);
  EXPECT_EQ(stats().bytes_waiting, 1130u);
  (void)serve_all();
  EXPECT_EQ(a->resumed, 1);
  EXPECT_EQ(b->resumed, 1);
  EXPECT_EQ(c->resumed, 1);
  EXPECT_EQ(stats().connections_paused, 0u);
  EXPECT_EQ(stats().bytes_waiting, 0u);
  EXPECT_EQ(stats().requests_served, 14u);
}

TEST_F(TurnsTest, AConnectionMayAlwaysHaveOneRequest) {
  const auto a = connect('a', "one"), b = connect('b', "two");
  EXPECT_FALSE(add(a, 1, 10'000));
  EXPECT_FALSE(add(b, 1, 100)) << "all bytes are taken, its one request is";
  EXPECT_EQ(serve_all(), "ab");
  EXPECT_EQ(a->resumed + b->resumed, 2);
}

// From many threads at once: everything is served, once and in order, and nobody stays paused.
TEST_F(TurnsTest, ManyThreads) {
  std::atomic<int> wakes{0};
  RpcTurns turns(
      *this, [&] { ++wakes; }, limits_);
  struct Shared {
    std::shared_ptr<RpcTurns::Source> source;
    std::atomic<bool> go{true};
  };
  constexpr int kEach = 500;
  std::vector<std::unique_ptr<Shared>> all;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    all.push_back(std::make_unique<Shared>());
    all[i]->source = turns.open(i < 2 ? "one" : "two", std::make_shared<Peer>('a' + i),
                                [raw = all[i].get()] { raw->go = true; });
  }
  for (auto& one : all) {
    threads.emplace_back([&turns, raw = one.get()] {
      for (int i = 1; i <= kEach; ++i) {
        while (!raw->go) std::this_thread::yield();
        pb::Request request;
        request.set_id(i);
        raw->go = false;
        if (turns.add(raw->source, std::move(request), 100)) raw->go = true;
      }
      turns.close(raw->source);
    });
  }
  size_t served = 0;
  const auto until = monotonic_now() + seconds(30);
  while (served < 4 * (kEach + 1) && monotonic_now() < until) {
    if (wakes.exchange(0) > 0)
      while (turns.serve()) {
      }
    served = order_.size();
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(served, 4u * (kEach + 1));
}

}  // namespace
}  // namespace datacloud
