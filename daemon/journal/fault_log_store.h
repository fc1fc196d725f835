// A log store that fails as told, for tests and simulations of what stands above it.
//
// Thread safety: as the store inside. The rule is called with no lock held, from any thread.
#pragma once

#include <functional>
#include <memory>

#include "daemon/journal/log_store.h"

namespace datacloud::journal {

enum class LogCall { head, claim, begin, append, settle, read, trim, seal };

enum class LogFault {
  none,
  lost_request,  // nothing happens; timed_out
  lost_answer,   // it happens; timed_out
  late,          // append: timed_out, and it happens at land_late(). Others: as lost_request
  old_head       // head: as it was at the last call of head() without this fault
};

class FaultLogStore : public LogStore {
 public:
  using Rule = std::function<LogFault(LogCall)>;
  // Appends that timed out happen now, in the order in which they were given. They count only if
  // the store lets them.
  virtual void land_late() = 0;
};

std::unique_ptr<FaultLogStore> make_fault_log_store(std::unique_ptr<LogStore>, FaultLogStore::Rule);

}  // namespace datacloud::journal
