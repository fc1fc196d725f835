// Claims as files (directory_claims.h).
#include "daemon/journal/directory_claims.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <functional>

#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {
namespace {

constexpr std::string_view kPrefix = "claim-";
constexpr std::string_view kTemporary = "making-claim-";
constexpr int kClaimersMax = 64;  // that are first, before a claim gives up

bool is_errno(const Error& error, int value) {
  return error.code() == std::error_code(value, std::generic_category());
}

std::string padded(uint64_t index) {
  std::string digits = std::to_string(index);
  return std::string(20 - digits.size(), '0') + digits;
}

}  // namespace

DirectoryClaims::DirectoryClaims(std::shared_ptr<FileLayer> files, std::string directory)
    : files_(std::move(files)), directory_(std::move(directory)) {}

std::string DirectoryClaims::path(uint64_t index) const {
  return directory_ + "/" + std::string(kPrefix) + padded(index);
}

result<std::vector<uint64_t>> DirectoryClaims::indexes() {
  const auto names = files_->list(directory_);
  if (!names && is_errno(names.error(), ENOENT)) return failure(no_journal());
  if (!names) return failure(names.error());
  std::vector<uint64_t> out;
  for (const auto& name : names.value()) {
    if (!name.starts_with(kPrefix)) continue;
    uint64_t index = 0;
    const char* end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data() + kPrefix.size(), end, index);
    if (error == std::errc() && at == end && padded(index) == name.substr(kPrefix.size())) {
      out.push_back(index);
    }
  }
  std::sort(out.begin(), out.end(), std::greater<>());
  return out;
}

result<ClaimFile> DirectoryClaims::read(uint64_t index) {
  TRY(const auto file, files_->open(path(index), FileLayer::Open::read_through));
  Bytes bytes(kClaimFileBytes);
  TRY(const size_t n, file->pread(0, bytes));
  bytes.resize(n);
  auto decoded = decode_claim_file(bytes);
  if (!decoded) return failure(decoded.error().in(path(index)));
  if (decoded.value().claim.index != index) {
    return failure(Errc::corrupt, path(index) + " is a copy of another claim; remove it");
  }
  return decoded;
}

// A file that is not there yet under a name that counts: contents first, then the link.
result<void> DirectoryClaims::write_file(const std::string& path, const Claim& claim) {
  TRY(auto file, files_->open(path, FileLayer::Open::truncate));
  TRY(file->append(encode_claim_file(claim)));
  return file->sync();
}

Error DirectoryClaims::no_journal() const {
  return Error(Errc::away, directory_ + " holds no journal: it is not mounted, or was emptied");
}

result<void> DirectoryClaims::format(const JournalId& journal) {
  TRY(const auto there, indexes());
  if (!there.empty()) return failure(Errc::exists, directory_ + " holds a journal already");
  const std::string temporary = directory_ + "/" + std::string(kTemporary) + "format";
  Claim claim;
  claim.journal = journal;
  TRY(write_file(temporary, claim));
  if (auto linked = files_->link(temporary, path(0)); !linked) return linked;
  TRY(files_->sync_directory(directory_));
  return files_->unlink(temporary);
}

result<ClaimFile> DirectoryClaims::last() {
  TRY(const auto there, indexes());
  if (there.empty()) return failure(no_journal());
  TRY(auto last, read(there.front()));
  for (size_t i = 1; i < there.size(); ++i) {
    const auto older = read(there[i]);
    if (!older && is_errno(older.error(), ENOENT)) continue;  // collected
    if (!older) return failure(older.error());
    last.floor = std::max(last.floor, older.value().floor);
  }
  return last;
}

result<void> DirectoryClaims::mark_before(uint64_t index) {
  TRY(const auto there, indexes());
  for (const uint64_t before : there) {
    if (before >= index) continue;
    auto file = files_->open(path(before), FileLayer::Open::write_through);
    if (!file) {
      if (is_errno(file.error(), ENOENT)) continue;  // collected
      return failure(file.error());
    }
    TRY(file.value()->write_at(kSupersededPage * kClaimPageBytes, encode_superseded_page(index)));
  }
  return success();
}

result<ClaimFile> DirectoryClaims::make(const JournalId& journal, const Epoch& epoch, bool seals) {
  const std::string temporary =
      directory_ + "/" + std::string(kTemporary) + epoch_text(epoch) + (seals ? "-seal" : "");
  for (int attempt = 0; attempt < kClaimersMax; ++attempt) {
    TRY(auto before, last());
    if (before.claim.journal != journal) {
      return failure(Errc::away, directory_ + " holds another cloud's journal");
    }
    if (before.claim.seals) {
      if (seals && before.claim.epoch == epoch) return before;
      return failure(Errc::revoked, directory_ + ": the journal here is sealed");
    }
    Claim mine{journal, epoch, before.claim.index + 1, seals, before.floor};
    const bool again = before.claim.epoch == epoch;  // an attempt with unknown outcome has landed
    const bool later = !again && before.claim.epoch.number >= epoch.number;
    if (later || (again && before.superseded) || (seals && !again)) {
      return failure(Errc::stale,
                     directory_ + ": epoch " + epoch_text(before.claim.epoch) + " is promised");
    }
    if (again && !seals) {
      mine = before.claim;
    } else {
      TRY(write_file(temporary, mine));
      auto linked = files_->link(temporary, path(mine.index));
      if (!linked && is_errno(linked.error(), EEXIST)) continue;  // another claimer was first
      if (!linked) return failure(linked.error());
    }
    TRY(files_->sync_directory(directory_));
    TRY(mark_before(mine.index));
    (void)files_->unlink(temporary);
    // The floors as they are now that nobody before may raise one and delete.
    TRY(auto after, last());
    if (after.claim != mine || after.superseded) {
      return failure(Errc::stale, directory_ + ": epoch " + epoch_text(after.claim.epoch) +
                                      " has claimed since");
    }
    return after;
  }
  return failure(Errc::unavailable, directory_ + ": others claim all the time");
}

result<ClaimFile> DirectoryClaims::confirm(const Claim& claim) {
  auto now = read(claim.index);
  if (!now) {
    if (!is_errno(now.error(), ENOENT)) return now;
    return failure(Errc::stale, directory_ + ": the claim of epoch " + epoch_text(claim.epoch) +
                                    " was superseded and collected");
  }
  if (now.value().claim != claim || now.value().superseded) {
    const auto newest = last();
    if (newest && newest.value().claim.seals) {
      return failure(Errc::revoked, directory_ + ": the journal here is sealed");
    }
    return failure(Errc::stale,
                   directory_ + ": epoch " + epoch_text(claim.epoch) + " was superseded");
  }
  return now;
}

result<void> DirectoryClaims::raise_floor(const Claim& claim, uint64_t floor) {
  TRY(const auto before, confirm(claim));
  if (before.floor >= floor) return success();
  const uint64_t count = before.floor_count + 1;
  {
    TRY(auto file, files_->open(path(claim.index), FileLayer::Open::write_through));
    TRY(file->write_at(floor_page_of(count) * kClaimPageBytes, encode_floor_page(count, floor)));
  }
  TRY(confirm(claim));
  return success();
}

result<void> DirectoryClaims::collect(const Claim& claim) {
  // A floor that only an older claim's file tells moves into this one's first.
  TRY(const auto newest, last());
  TRY(raise_floor(claim, newest.floor));
  TRY(const auto there, indexes());
  TRY(const auto names, files_->list(directory_));
  const auto remove = [&](const std::string& file) -> result<void> {
    auto gone = files_->unlink(file);
    if (!gone && !is_errno(gone.error(), ENOENT)) return gone;
    return success();
  };
  // The oldest first: what is left of an interrupted collection is the newest.
  for (auto it = there.rbegin(); it != there.rend(); ++it) {
    if (*it < claim.index) {
      TRY(remove(path(*it)));
    }
  }
  for (const auto& name : names) {
    if (name.starts_with(kTemporary) && name.find(epoch_text(claim.epoch)) == std::string::npos) {
      TRY(remove(directory_ + "/" + name));
    }
  }
  return success();
}

}  // namespace datacloud::journal
