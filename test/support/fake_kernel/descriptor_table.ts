import { ERRNO } from "../../../ffi/errno.ts";
import type { Rlimit } from "../../../ffi/layout.ts";
import { EpollInstance } from "./epoll.ts";
import type { OpenFile } from "./open_file.ts";

/** One number of the table. */
interface Descriptor {
  readonly file: OpenFile;
  isCloexec: boolean;
}

/**
 * The descriptors of one process, and the part it has in the system's table of open files. The limit of a process is
 * on numbers, that of the system on files: getrlimit(2), proc_sys_fs(5).
 */
export class DescriptorTable {
  /** RLIMIT_NOFILE. */
  limit: Rlimit;
  /** fs.file-max. */
  fileMax = Infinity;
  /** Open files of other processes. */
  foreignFiles = 0;
  readonly #descriptors = new Map<number, Descriptor>();
  readonly #files = new Set<OpenFile>();
  /** No number below is free. */
  #firstFree = 0;

  constructor(limit: Rlimit) {
    this.limit = limit;
  }

  /** In ascending order. */
  get numbers(): number[] {
    return [...this.#descriptors.keys()].sort((a, b) => a - b);
  }

  /** How many files this process has open. */
  get fileCount(): number {
    return this.#files.size;
  }

  get(fd: number): OpenFile | undefined {
    return this.#descriptors.get(fd)?.file;
  }

  isCloexec(fd: number): boolean {
    return this.#descriptors.get(fd)!.isCloexec;
  }

  setCloexec(fd: number, isCloexec: boolean): void {
    this.#descriptors.get(fd)!.isCloexec = isCloexec;
  }

  /** The lowest free number from `from` on, or `-EMFILE`. */
  lowestFree(from: number = 0): number {
    let fd = Math.max(from, this.#firstFree);
    while (this.#descriptors.has(fd)) fd++;
    if (from <= this.#firstFree) this.#firstFree = fd;
    return fd < this.limit.soft ? fd : -ERRNO.EMFILE[0];
  }

  /** Whether the system has no room for another file. */
  get isSystemFull(): boolean {
    return this.#files.size + this.foreignFiles >= this.fileMax;
  }

  /**
   * Opens a new file at the lowest free number. The number is decided first, then the system's table, then `make` is
   * asked, which may refuse with `-errno`.
   */
  open(isCloexec: boolean, make: () => OpenFile | number): number {
    const fd = this.lowestFree();
    if (fd < 0) return fd;
    if (this.isSystemFull) return -ERRNO.ENFILE[0];
    const file = make();
    if (typeof file !== "number") this.install(fd, file, isCloexec);
    return typeof file === "number" ? file : fd;
  }

  /** Makes `fd` refer to `file`, and to nothing else any more. */
  install(fd: number, file: OpenFile, isCloexec: boolean): void {
    const replaced = this.#descriptors.get(fd)?.file;
    this.#descriptors.set(fd, { file, isCloexec });
    this.#files.add(file);
    file.descriptors++;
    if (replaced !== undefined) this.#release(replaced);
  }

  close(fd: number): number {
    const file = this.get(fd);
    if (file === undefined) return -ERRNO.EBADF[0];
    this.#descriptors.delete(fd);
    this.#firstFree = Math.min(this.#firstFree, fd);
    this.#release(file);
    return 0;
  }

  /** With its last descriptor a file leaves every epoll instance; before that, it does not: epoll(7). */
  #release(file: OpenFile): void {
    if (--file.descriptors > 0) return;
    this.#files.delete(file);
    for (const other of this.#files) if (other instanceof EpollInstance) other.forget(file);
    file.release();
  }
}
