// Asynchronous operations on one opened pool, each tracked so that it can be given up.
//
// Thread safety: all methods from any thread. Answers come on librados' callback thread, exactly
// once each; they must not block.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <rados/librados.hpp>
#include <string>
#include <unordered_set>

#include "common/store/rados/rados_cluster.h"

namespace datacloud {

class RadosPool {
 public:
  using Done = std::function<void(int rc)>;  // 0 or a negative errno

  RadosPool(std::shared_ptr<RadosCluster> cluster, librados::IoCtx io)
      : cluster_(std::move(cluster)), io_(std::move(io)) {}
  // Every operation must have been answered.
  ~RadosPool();
  RadosPool(const RadosPool&) = delete;
  RadosPool& operator=(const RadosPool&) = delete;

  // What the operation's answers are written to must live until `done` has run.
  void read(const std::string& name, librados::ObjectReadOperation&, Done);
  // Full clusters answer -ENOSPC, pools whose quota is used up -EDQUOT; `flags` are more of
  // librados' operation flags.
  void write(const std::string& name, librados::ObjectWriteOperation&, Done, int flags = 0);

  // Gives up what is unanswered (-ECANCELED; it may have happened all the same) and waits until
  // all answers have been delivered. New operations are answered -ESHUTDOWN.
  void close();

  bool closing();

  // Whether our OSD class works on this pool (rados_class.h).
  enum class ClassState { unknown, there, missing };
  std::atomic<ClassState> class_state{ClassState::unknown};

  librados::IoCtx& io() { return io_; }
  RadosCluster& cluster() { return *cluster_; }
  const std::shared_ptr<RadosCluster>& shared_cluster() const { return cluster_; }

 private:
  struct Flight;
  static void landed(rados_completion_t, void* flight);
  void fly(Done, const std::function<int(librados::AioCompletion*)>& start);
  void finish(Flight*, int rc);

  const std::shared_ptr<RadosCluster> cluster_;
  librados::IoCtx io_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_set<Flight*> flights_;  // started or about to be
  size_t starting_ = 0;                  // between entering flights_ and librados' return
  size_t answering_ = 0;                 // out of flights_, their `done` still running
  bool closed_ = false;
};

}  // namespace datacloud
