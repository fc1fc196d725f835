// From a site's configuration to its part of the journal. docs/journal.md, "Where it is".
//
//   directory   PATH/.journal, beside the site's objects
//   rados       guarded objects in the site's pool and namespace
//   memory      in this process, made anew at each opening (tests)
//
// Neither listings nor scrub, gc or the sums of the objects' bytes see it; the room it takes shows
// in what the site has free.
#pragma once

#include <memory>

#include "common/config/config.h"
#include "common/store/object_store.h"
#include "daemon/journal/log_store.h"

namespace datacloud::journal {

inline constexpr uint64_t kSegmentBytesDefault = uint64_t{64} << 20;

// Makes an empty journal at a site that is formatted already. Blocks. exists: it holds one, of
// whichever cloud. away: the site is not there, or is another one than `expected`. unsupported: a
// site of this kind cannot hold a journal.
result<void> format_site_log(const SiteConfig&, const SiteMarker& expected, const JournalId&);

// Does no I/O of the site itself: a site that is away says so at each call. unsupported as above.
result<std::unique_ptr<LogStore>> open_site_log(const SiteConfig&, const SiteMarker& expected,
                                                const JournalId&,
                                                uint64_t segment_bytes = kSegmentBytesDefault);

}  // namespace datacloud::journal
