// A request of a node, run on a site's store, and its answer as a frame.
#pragma once

#include <functional>

#include "common/store/object_store.h"
#include "common/store/remote/site_frame.h"
#include "common/store/remote/site_server.h"
#include "common/store/remote/site_window.h"

namespace datacloud {

// Whether a request changes the site, so that a read-only mount may not ask for it.
bool changes_site(const pb::StoreRequest&);
// Whatever a frame says of the window is in it. `window` may be null.
bool fits_window(const pb::StoreFrame&, const SiteWindow* window);
// Asks the store; `answered` runs once, on any thread. `kept` lives until the answer has been sent.
// The frame fits the window, which is null where there is none.
void run_site_request(ObjectStore&, SiteFrameReader::Whole, std::shared_ptr<const SiteWindow>,
                      std::shared_ptr<const void> kept, std::function<void(SiteFrameOut)> answered);
// The same for the journal's log; null: there is none.
void run_site_log(SiteLogService*, const SiteMarker&, SiteFrameReader::Whole,
                  std::shared_ptr<const void> kept, std::function<void(SiteFrameOut)> answered);
// An answer without segments.
SiteFrameOut site_answer(uint64_t id, pb::StoreReply, std::shared_ptr<const void> kept);

}  // namespace datacloud
