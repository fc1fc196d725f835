// The journal's log at a site, found by the site's configuration.
//
// A directory site has it in its folder `journal`; a RADOS site in objects beside the shards, which
// no listing shows. The server of another machine's site ("remote") has it in its folder.
#pragma once

#include <memory>
#include <string>

#include "common/base/error.h"
#include "common/config/config.h"
#include "common/store/object_store.h"
#include "daemon/journal/log_store.h"

namespace datacloud::journal {

// Of logs at served sites, and the default elsewhere.
inline constexpr uint64_t kSegmentBytesDefault = uint64_t{64} << 20;

// unsupported: sites of this kind hold no journal; the text names the site and says why.
result<void> check_holds_journal(const SiteConfig&);

// Makes an empty log at a site that carries `marker`, or takes over one that has no entries, which
// an attempt that was cut off has left. exists: there is a log with entries. Blocks.
result<void> format_site_log(const SiteConfig&, const SiteMarker& marker, const JournalId&,
                             uint64_t segment_bytes);

// Does no I/O itself.
result<std::unique_ptr<LogStore>> open_site_log(const SiteConfig&, const SiteMarker& marker,
                                                const JournalId&, uint64_t segment_bytes);

// A log that does not answer, for that reason: of a site that is not configured.
std::unique_ptr<LogStore> make_absent_log(std::string reason);

// Whether a directory site has a journal with entries: then its cloud uses one. Of other sites, and
// when that cannot be seen: false.
bool has_journal_entries(const SiteConfig&, const JournalId&);

// Takes back what format_site_log made, as long as it has no entries. False: something is left.
bool undo_site_log(const SiteConfig&);

}  // namespace datacloud::journal
