// Segments as files (directory_segments.h).
#include "daemon/journal/directory_segments.h"

#include <algorithm>
#include <charconv>

#include "daemon/journal/log_bytes.h"

namespace datacloud::journal {
namespace {

constexpr std::string_view kPrefix = "segment-";
constexpr size_t kDigits = 20;
constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr size_t kNewsBytes = size_t{64} << 10;  // the first piece behind a mark: mostly zeros

std::string padded(uint64_t number) {
  std::string digits = std::to_string(number);
  return std::string(kDigits - digits.size(), '0') + digits;
}

bool number_at(const std::string& name, size_t offset, uint64_t& out) {
  const char* start = name.data() + offset;
  const auto [at, error] = std::from_chars(start, start + kDigits, out);
  return error == std::errc() && at == start + kDigits;
}

}  // namespace

DirectorySegments::DirectorySegments(std::shared_ptr<FileLayer> files, std::string directory)
    : files_(std::move(files)), directory_(std::move(directory)) {}

std::string DirectorySegments::name_of(uint64_t claim, uint64_t number) {
  return std::string(kPrefix) + padded(claim) + "-" + padded(number);
}

result<std::vector<DirectorySegment>> DirectorySegments::names() {
  TRY(const auto all, files_->list(directory_));
  std::vector<DirectorySegment> out;
  for (const auto& name : all) {
    DirectorySegment found;
    found.name = name;
    if (name.size() != kPrefix.size() + 2 * kDigits + 1 || !name.starts_with(kPrefix)) continue;
    if (!number_at(name, kPrefix.size(), found.claim)) continue;
    if (!number_at(name, kPrefix.size() + kDigits + 1, found.number)) continue;
    if (name == name_of(found.claim, found.number)) out.push_back(std::move(found));
  }
  if (out.size() > kSegmentsMax) {
    return failure(Errc::corrupt, directory_ + " holds more than 4096 segments");
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::pair(a.claim, a.number) > std::pair(b.claim, b.number);
  });
  return out;
}

// None while the file is being made: the header is written last.
result<std::optional<SegmentHeader>> DirectorySegments::header_of(const std::string& name) {
  TRY(const auto file, files_->open(path(name), FileLayer::Open::read_through));
  Bytes page(kSegmentHeaderBytes);
  TRY(const size_t n, file->pread(0, page));
  if (n < page.size() || all_zero(page)) return std::optional<SegmentHeader>();
  auto header = decode_segment_header(page);
  if (!header) return failure(header.error().in(path(name)));
  return std::optional(std::move(header).value());
}

result<std::vector<DirectorySegment>> DirectorySegments::chain(const JournalId& journal,
                                                               uint64_t from) {
  TRY(const auto all, names());
  std::vector<DirectorySegment> out;
  for (const auto& candidate : all) {
    TRY(auto header, header_of(candidate.name));
    if (!header) continue;
    out.push_back(candidate);
    out.back().header = std::move(*header);
    break;
  }
  while (!out.empty()) {
    const DirectorySegment& newer = out.back();
    if (newer.header.journal != journal) {
      return failure(Errc::corrupt, path(newer.name) + " is of another journal");
    }
    if (newer.header.previous.empty() || newer.header.base.sequence < from) break;
    const auto older = std::find_if(all.begin(), all.end(), [&](const auto& segment) {
      return segment.name == newer.header.previous;
    });
    if (older == all.end()) break;  // trimmed, or lost: whoever reads below it finds out
    TRY(auto header, header_of(older->name));
    if (!header || header->ordinal >= newer.header.ordinal) {
      return failure(Errc::corrupt, path(older->name) + " is not the segment it was");
    }
    DirectorySegment next = *older;
    next.header = std::move(*header);
    next.limit = newer.header.previous_bytes;
    out.push_back(std::move(next));
  }
  return out;
}

result<DirectorySegments::End> DirectorySegments::scan(const DirectorySegment& segment,
                                                       const std::function<bool(LogEntry)>& sink,
                                                       const std::optional<ReadMarks::Mark>& from) {
  TRY(const auto file, files_->open(path(segment.name), FileLayer::Open::read_through));
  SegmentScanner scanner(segment.header, segment.limit, from);
  bool wanted = true;
  End end{segment.header.base, 0};
  if (from) end = {from->last, from->bytes};
  Bytes chunk(from ? kNewsBytes : kChunkBytes);
  for (uint64_t offset = end.bytes; wanted;) {
    TRY(const size_t n, file->pread(kEntriesOffset + offset, chunk));
    uint64_t valid = end.bytes;
    const bool more = scanner.feed(ByteView(chunk).first(n), [&](LogEntry entry) {
      if (!wanted) return;
      valid = scanner.valid_bytes();
      end = {entry.position(), valid};
      wanted = sink(std::move(entry));
    });
    if (!more || n < chunk.size()) break;
    offset += chunk.size();
    chunk.resize(kChunkBytes);
  }
  return end;
}

result<void> DirectorySegments::make(const std::string& name, const SegmentHeader& header,
                                     uint64_t bytes) {
  {
    TRY(auto file, files_->open(path(name), FileLayer::Open::create_exclusive));
    const Bytes zeros(std::min<uint64_t>(kChunkBytes, bytes), 0);
    for (uint64_t done = 0; done < bytes; done += zeros.size()) {
      TRY(file->append(ByteView(zeros).first(std::min<uint64_t>(zeros.size(), bytes - done))));
    }
    TRY(file->sync());
  }
  TRY(auto file, files_->open(path(name), FileLayer::Open::write_through));
  Bytes page = encode_segment_header(header);
  page.resize(kWriteThroughBytes, 0);
  // The name first: a header that is there ends the log, so it must not go and come again.
  TRY(files_->sync_directory(directory_));
  return file->write_at(0, page);
}

}  // namespace datacloud::journal
