// The checkpoints of a cloud that has a journal: the job, its journal, and what is told of it.
//
// Thread: the loop's only.
#pragma once

#include <memory>

#include "common/crypto/keys.h"
#include "common/proto/journal.pb.h"
#include "daemon/checkpoint/checkpoint_job.h"
#include "daemon/maintenance/service_dependencies.h"
#include "daemon/maintenance/status_problems.h"

namespace datacloud {

class JournalCheckpoints {
 public:
  // The dependencies, whose journal is set, must outlive it.
  JournalCheckpoints(ServiceDependencies&, const pb::JournalSet&, const SecretKey& metadata_key);
  ~JournalCheckpoints();

  result<void> start() { return job_->start(); }
  CheckpointJob& job() { return *job_; }
  void describe(pb::JournalStatus&) const;
  void check(StatusProblems&) const;

 private:
  class Journal;
  const std::unique_ptr<Journal> journal_;
  const std::unique_ptr<CheckpointJob> job_;
};

}  // namespace datacloud
