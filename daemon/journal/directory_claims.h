// Claims at a directory site. docs/journal.md, "Directory sites".
//
// Claims are files claim-INDEX, made one after another: link() to the next index succeeds for one
// claimer only. A claimer then marks the claims before its own as superseded, in their files, and
// looks whether its own still is the last. A leader reads its own file anew after each write: a
// name that exists, opened again, so that NFS asks the server. A name below the last one says
// nothing, for the files of old claims are deleted and a claimer that was stopped for long may make
// such a name again.
//
// Thread safety: all methods from any thread; no state but the directory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/file_layer.h"
#include "daemon/journal/claim_format.h"

namespace datacloud::journal {

class DirectoryClaims {
 public:
  DirectoryClaims(std::shared_ptr<FileLayer>, std::string directory);

  // Makes claim 0, of no epoch. exists: there are claims.
  result<void> format(const JournalId&);

  // The last claim; `floor` is the highest of all that are there. away: there is none.
  result<ClaimFile> last();

  // As LogStore::claim, for a leader or (`seals`) to seal the log. Returns the claim made, or the
  // one of this epoch that was there already.
  result<ClaimFile> make(const JournalId&, const Epoch&, bool seals);

  // stale unless this claim is the last one still. revoked: what followed it sealed the log.
  result<ClaimFile> confirm(const Claim&);

  // Makes the floor durable in the claim's file and returns once the claim still stands: now what
  // is below may be deleted.
  result<void> raise_floor(const Claim&, uint64_t floor);

  // Deletes the files of claims before this one, which stands, and what claimers that died left.
  result<void> collect(const Claim&);

 private:
  Error no_journal() const;
  std::string path(uint64_t index) const;
  result<std::vector<uint64_t>> indexes();  // falling
  result<ClaimFile> read(uint64_t index);
  result<void> write_file(const std::string& path, const Claim&);
  result<void> mark_before(uint64_t index);

  const std::shared_ptr<FileLayer> files_;
  const std::string directory_;
};

}  // namespace datacloud::journal
