// `datacloud create --finish`: the sites of a new cloud that other machines serve.
//
// `create` has entered them in the records. Their servers need the daemon, and so run later; each
// is asked to format its folder then, and the journal, which lies at all sites, is switched on
// last. Every step may be done already: the command is repeated until all sites are there.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "common/base/features.h"
#include "common/site/site_set.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/site_calls.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct Finished {
  std::vector<std::string> formatted;
  std::vector<std::string> obstacles;  // of sites that are not there yet
};

// Storage that was used once is rebuilt, not begun anew.
result<void> check_never_used(const pb::StatusReply& status, const std::string& name) {
  for (const auto& site : status.sites()) {
    if (site.name() != name || site.shards() + site.missing() == 0) continue;
    return failure(Errc::exists,
                   fmt::format("site {}: its storage is empty, and files have shards there: "
                               "`datacloud site rebuild {}`",
                               name, name));
  }
  return success();
}

// True: it was formatted now.
result<bool> finish_site(const SiteConfig& site, const SiteMarker& marker,
                         const pb::StatusReply& status) {
  const auto found = read_store_marker(site, marker.cloud_uuid);
  if (found && found.value() == marker) return false;
  if (found) {
    return failure(
        Errc::exists,
        fmt::format("site {}: {} holds site {} (number {}) of cloud {} ({}): correct the "
                    "address, or take empty storage",
                    site.name, site_place(site, marker.cloud_uuid), found.value().site_name,
                    found.value().site_id, found.value().cloud_name, found.value().cloud_uuid));
  }
  if (found.error().is(Errc::away) && site.store == "remote") {
    return failure(Errc::away, fmt::format("{}; is `datacloudd --site {}` running there?",
                                           found.error().text(), site.name));
  }
  if (!found.error().is(Errc::not_found) || site.store != "remote") return failure(found.error());
  TRY(check_never_used(status, site.name));
  TRY(format_store(site, marker));
  return true;
}

result<Finished> finish(const CommandContext& context) {
  TRY(const auto config, load_config(context.config));
  TRY(auto link, connect_to_daemon(context, seconds(60)));
  pb::Request asked;
  asked.mutable_status();
  TRY(const auto reply, link.call(std::move(asked)));
  Finished out;
  for (const auto& info : reply.status().cloud().sites()) {
    if (info.duty() == pb::SITE_REMOVED) continue;
    const auto site = std::find_if(config.sites.begin(), config.sites.end(),
                                   [&](const auto& s) { return s.name == info.name(); });
    if (site == config.sites.end()) {
      out.obstacles.push_back(fmt::format("{}: no [[site]] is named \"{}\": add it",
                                          context.config.string(), info.name()));
      continue;
    }
    const auto done = finish_site(*site, marker_of(reply.status().cloud(), info), reply.status());
    if (!done) {
      out.obstacles.push_back(done.error().text());
      continue;
    }
    if (done.value()) out.formatted.push_back(info.name());
    TRY(const auto seen, wait_until_site_up(link, info.name()));
    if (!seen.up())
      out.obstacles.push_back(
          fmt::format("site {}: the daemon finds it away: {}", info.name(), seen.reason()));
  }
  return out;
}

}  // namespace

int run_create_finish(const CommandContext& context, const CreateOptions& options) {
  const auto finished = finish(context);
  if (!finished) return report_failure(finished.error());
  const Finished& done = finished.value();
  const bool whole = done.obstacles.empty();
  if (context.json && !(whole && options.journal)) {
    fmt::print("{}", json_text({{"formatted", done.formatted}, {"obstacles", done.obstacles}}));
  } else if (!context.json) {
    for (const auto& name : done.formatted) fmt::print("site {} has been formatted\n", name);
    for (const auto& text : done.obstacles) fmt::print(stderr, "{}\n", printable(text));
    if (whole) fmt::print("all sites of the cloud are there\n");
  }
  if (!whole) {
    if (!context.json) fmt::print(stderr, "run this again when the servers of these sites run\n");
    return kExitFailed;
  }
  if (!options.journal) return kExitOk;
  const int enabled = run_journal_enable(context, {}, options.accept_weaker);
  if (enabled != kExitOk || options.features != "all") return enabled;
  // What `create --journal` does at once where no site has to be waited for.
  const std::string name(describe(Feature::inline_data).name);
  if (const auto done = enable_feature(context, name); !done)
    fmt::print(stderr, "{}; later: datacloud feature enable {}\n",
               printable(done.error().message()), name);
  return enabled;
}

}  // namespace datacloud
