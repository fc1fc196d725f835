// Requests on their way from the connections' threads to the service, served one at a time, in
// turn.
//
// Clients (a node, or a process of this machine) share the service's time by deficit round robin
// (Shreedhar and Varghese, 1995) counted in time: each turn gives a client kTurnQuantum; what its
// requests took is taken off, so that one with expensive requests waits for longer. Connections of
// one client take turns request by request. Requests of one connection keep their order.
//
// So a request at the head of its client's queue waits at most for the request that is being
// served, and for kTurnQuantum and one request more of each other client that waits, if its client
// has not used up its own share; else for as many rounds of that as its debt (at most kTurnDebtMax)
// has quanta.
//
// Bounds: RpcTurnsLimits, of a connection, a client and in all. A connection over one of them is
// not read from until its requests have been served; one without waiting requests may always add
// one, so that no connection is shut out by others.
//
// Thread safety: all methods from any thread, besides serve(): by one at a time, who may call the
// service.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/base/clock.h"
#include "common/rpc/rpc.h"

namespace datacloud {

inline constexpr Duration kTurnQuantum = std::chrono::microseconds(500);
inline constexpr Duration kTurnDebtMax = milliseconds(10);
inline constexpr Duration kTurnSlice = milliseconds(2);  // then timers and posted functions come
inline constexpr Duration kTurnSliceInside =
    std::chrono::microseconds(200);  // on a connection's thread

struct RpcTurnsLimits {
  size_t requests_of_connection = 256;
  uint64_t bytes_of_connection = 4u << 20;
  size_t requests_of_client = 1024;
  uint64_t bytes_of_client = 16u << 20;
  uint64_t bytes = 128u << 20;
};

class RpcTurns {
 public:
  // One connection's requests.
  class Source;

  // `wake` is called, from any thread, when there is something to serve and serve() has returned
  // false since: somebody then calls it until it does so again. `now`: a test's clock.
  RpcTurns(RpcService& service, std::function<void()> wake, RpcTurnsLimits limits = {},
           std::function<MonotonicTime()> now = monotonic_now);
  ~RpcTurns();

  // `resume` is called, from any thread and under a lock (it only posts), when a connection that
  // was told to pause may be read from again.
  std::shared_ptr<Source> open(const std::string& client, std::shared_ptr<RpcConnection>,
                               std::function<void()> resume);
  // False: read no more until `resume` is called.
  bool add(const std::shared_ptr<Source>&, pb::Request, uint64_t bytes);
  // The connection has ended: the service is told after what it had sent has been served. Once.
  void close(const std::shared_ptr<Source>&);

  // Serves for so long, or until nothing is left. True: there is more.
  bool serve(Duration slice = kTurnSlice);

  // threads, connections and handshakes are not its to know.
  void add_to(RpcServerStats&) const;

 private:
  struct Item;
  struct Client;
  struct Taken;
  bool take(Taken&);
  void served(const Taken&, MonotonicTime began, MonotonicTime ended);
  bool has_room(const Source&) const;
  void append(const std::shared_ptr<Source>&, Item);
  void maybe_resume(Source&);

  RpcService& service_;
  const std::function<void()> wake_;
  const RpcTurnsLimits limits_;
  const std::function<MonotonicTime()> now_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Client>> clients_;
  std::deque<std::shared_ptr<Client>> waiting_;  // those with requests, the next first
  uint64_t bytes_ = 0;
  bool awake_ = false;       // serve() is called, or going to be
  uint64_t idle_times_ = 0;  // debts are of the time since then: nobody waited before
  RpcServerStats stats_;
};

}  // namespace datacloud
