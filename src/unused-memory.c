// Gives memory of this process that is not in use back to the kernel: free blocks of malloc, and pages of the program's
// file, most of which only the start needs. Pages that are used again are read again, usually from the page cache.
#define _GNU_SOURCE
#include <link.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

// Drops the pages in a range of a segment that are mapped from a file. Node.js may have copied its code into huge pages
// (--use-largepages), which have no file and would be lost.
static void drop_pages(unsigned long from, unsigned long to) {
  FILE *maps = fopen("/proc/self/maps", "re");
  if (maps == NULL) return;
  char line[4352], rights[5];
  unsigned long start, end, inode;
  while (fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &start, &end, rights, &inode) != 4) continue;
    if (inode == 0 || rights[1] == 'w') continue;
    if (start < from) start = from;
    if (end > to) end = to;
    if (start < end) madvise((void *)start, end - start, MADV_DONTNEED);
  }
  fclose(maps);
}

// Drops pages of the segments that the program never writes to. Others hold relocated addresses even if they are read-only.
static int drop_segments(struct dl_phdr_info *program, size_t size, void *data) {
  (void)size, (void)data;
  unsigned long whole_pages = ~((unsigned long)sysconf(_SC_PAGESIZE) - 1);
  for (int at = 0; at < program->dlpi_phnum; at++) {
    const ElfW(Phdr) *segment = &program->dlpi_phdr[at];
    if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) != 0) continue;
    unsigned long start = program->dlpi_addr + segment->p_vaddr;
    drop_pages(start & whole_pages, (start + segment->p_memsz) & whole_pages);
  }
  // The first object is the program; libraries are left alone.
  return 1;
}

// Node.js calls this whenever the library is loaded; it takes and returns the exports of the module.
void *napi_register_module_v1(void *env, void *exports) {
  (void)env;
  malloc_trim(0);
  dl_iterate_phdr(drop_segments, NULL);
  return exports;
}
