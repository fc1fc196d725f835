// An audit by a third party: reads a bundle, asks the sites, reports. Needs no daemon and no key
// but the audit keys in the bundle, writes nothing at the sites, and learns nothing but ciphertext.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "common/audit/audit_bundle.h"
#include "common/audit/stripe_challenge.h"
#include "common/config/config.h"
#include "tools/audit/audit_report.h"

namespace datacloud {

struct ThirdPartyOptions {
  std::filesystem::path bundle;
  std::filesystem::path refresh;  // empty: none
  Bytes signer;                   // public key of the cloud's daemon
  uint64_t samples = 0;           // shards at random; 0: all
  double confidence = 0;          // > 0: as many shards as find `damage` with it
  double damage = 0.001;
  // Of stripes whose columns are compared by combinations of their own, at sites that compute: one
  // in so many; 0: none. Where shards are read as a whole, all are.
  unsigned compare_one_in = kComparedOneIn;
  std::filesystem::path recheck;  // a report: only its findings; what was replaced is outdated
};

// The report. `progress` is told stripes done and all.
result<ReportJson> audit_as_third_party(const ThirdPartyOptions&, const std::vector<SiteConfig>&,
                                        std::function<void(uint64_t, uint64_t)> progress);

}  // namespace datacloud
