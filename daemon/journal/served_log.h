// The journal's log of a site over the site's server (common/store/remote): what the server does
// with the daemon's calls, and the log store that makes them. docs/journal.md, "Served sites".
#pragma once

#include <functional>
#include <memory>

#include "common/store/remote/remote_store.h"
#include "common/store/remote/site_server.h"
#include "daemon/journal/log_store.h"

namespace datacloud::journal {

inline constexpr size_t kServedLogsMax = 4;  // that are open at once

struct LogServiceOptions {
  std::function<result<std::unique_ptr<LogStore>>(const SiteMarker&, const JournalId&)> open;
  std::function<result<void>(const SiteMarker&, const JournalId&)> format;
};

// One thread makes the calls, in the order in which they come; whoever claims, the logs are opened
// once. Destruction answers what was asked. Thread safety: all methods from any thread.
std::unique_ptr<SiteLogService> make_log_service(LogServiceOptions);

// Calls but append wait at most that long for an answer; then their outcome is unknown.
inline constexpr Duration kServedCallMax = seconds(60);

// As any log store; one connection, made when it is needed. An append whose connection broke is
// unknown.
std::unique_ptr<LogStore> make_served_log(RemoteStoreOptions, const JournalId&);

// Has the server make an empty log; errors as format_site_log.
result<void> format_served_log(RemoteStoreOptions, const JournalId&);

}  // namespace datacloud::journal
