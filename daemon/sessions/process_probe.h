// Is the local process behind a session still the one that said hello?
//
// A process is (boot id, pid, start time): pids are reused, start times of one boot are not for one
// pid. The pid comes from the socket's peer credentials, never from what a peer says.
#pragma once

#include <sys/types.h>

#include "common/proto/records.pb.h"

namespace datacloud {

class ProcessProbe {
 public:
  virtual ~ProcessProbe() = default;
  // Fills pid, process_start and boot_id. A process that cannot be seen gets pid 0.
  virtual void identify(pid_t pid, pb::Session& session) = 0;
  // True only when it is certain that the process has ended (a zombie has).
  virtual bool gone(const pb::Session& session) = 0;
};

// Looks into /proc.
class LocalProcessProbe final : public ProcessProbe {
 public:
  LocalProcessProbe();
  void identify(pid_t pid, pb::Session& session) override;
  bool gone(const pb::Session& session) override;

 private:
  std::string boot_id_;
};

}  // namespace datacloud
