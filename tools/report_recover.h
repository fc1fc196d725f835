// What `datacloud recover` tells, as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/checkpoint/recovery.h"
#include "tools/json_text.h"

namespace datacloud {

struct RecoveryReport {
  std::string cloud_name, cloud_uuid, state;
  Survey survey;
  std::optional<CheckpointHealth> health;  // of the newest checkpoint: dry run
  std::optional<Recovered> recovered;      // else
  std::optional<uint64_t> to;
  std::vector<std::string> warnings;
  bool possible = false;  // the dry run: it would work now
};

Json recovery_json(const RecoveryReport&);
std::string recovery_text(const RecoveryReport&, bool colours);

}  // namespace datacloud
