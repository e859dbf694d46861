import { EPOLL } from "../../../ffi/constants.ts";
import { ERRNO } from "../../../ffi/errno.ts";
import { OpenFile, type Watch } from "./open_file.ts";

/** What a registration keeps when a oneshot event has been taken. Source: fs/eventpoll.c. */
const PRIVATE_BITS = EPOLL.oneshot | EPOLL.et | EPOLL.exclusive;
const EXCLUSIVE_OK_BITS = EPOLL.in | EPOLL.out | EPOLL.err | EPOLL.hup | EPOLL.et | EPOLL.exclusive;

/** An event mask and 64 bits of user data. */
export interface EpollEvent {
  readonly events: number;
  readonly slot: number;
  readonly generation: number;
}

/** One file under one number; it outlives the number if the file was duplicated. */
class Registration implements Watch {
  readonly fd: number;
  readonly file: OpenFile;
  readonly #epoll: EpollInstance;
  event: EpollEvent;
  isQueued = false;

  constructor(epoll: EpollInstance, fd: number, file: OpenFile, event: EpollEvent) {
    this.#epoll = epoll;
    this.fd = fd;
    this.file = file;
    this.event = event;
  }

  get isExclusive(): boolean {
    return (this.event.events & EPOLL.exclusive) !== 0;
  }

  /** What is both ready and asked for. */
  get readiness(): number {
    return this.file.readiness & this.event.events;
  }

  notify(key: number): boolean {
    const { events } = this.event;
    if ((events & ~PRIVATE_BITS) === 0 || (key !== 0 && (key & events) === 0)) return false;
    return this.#epoll.queue(this);
  }
}

/** An epoll instance: who is watched, and who may be ready. Follows fs/eventpoll.c. */
export class EpollInstance extends OpenFile {
  readonly kind = "epoll";
  /** A thread is inside epoll_wait(2). */
  isWaitedFor = false;
  readonly #registrations = new Set<Registration>();
  /** In the order in which they are told. */
  #ready: Registration[] = [];

  constructor(statusFlags: number) {
    super("epoll", statusFlags);
  }

  /** Readable while there are events; asking drops what is ready no more. */
  get readiness(): number {
    while (this.#ready.length > 0 && this.#ready[0]!.readiness === 0) this.#ready.shift()!.isQueued = false;
    return this.#ready.length > 0 ? EPOLL.in : 0;
  }

  add(fd: number, file: OpenFile, event: EpollEvent): number {
    const { events } = event;
    if (file instanceof EpollInstance) throw new Error("Cannot fake an epoll instance that watches another");
    if (events & EPOLL.exclusive && events & ~EXCLUSIVE_OK_BITS) return -ERRNO.EINVAL[0];
    if (this.#find(fd, file) !== undefined) return -ERRNO.EEXIST[0];
    const registration = new Registration(this, fd, file, always(event));
    this.#registrations.add(registration);
    file.watches.add(registration);
    if (registration.readiness !== 0) this.queue(registration);
    return 0;
  }

  modify(fd: number, file: OpenFile, event: EpollEvent): number {
    if (event.events & EPOLL.exclusive) return -ERRNO.EINVAL[0];
    const registration = this.#find(fd, file);
    if (registration === undefined) return -ERRNO.ENOENT[0];
    if (registration.isExclusive) return -ERRNO.EINVAL[0];
    registration.event = always(event);
    if (registration.readiness !== 0) this.queue(registration);
    return 0;
  }

  remove(fd: number, file: OpenFile): number {
    const registration = this.#find(fd, file);
    if (registration === undefined) return -ERRNO.ENOENT[0];
    this.#drop(registration);
    return 0;
  }

  /** The last descriptor of `file` was closed. */
  forget(file: OpenFile): void {
    for (const registration of this.#registrations) if (registration.file === file) this.#drop(registration);
  }

  /** Takes up to `count` events. Level-triggered ones go to the end of the line. */
  take(count: number): EpollEvent[] {
    const events: EpollEvent[] = [];
    const line = this.#ready;
    this.#ready = [];
    while (line.length > 0 && events.length < count) {
      const registration = line.shift()!;
      registration.isQueued = false;
      const { readiness, event } = registration;
      if (readiness === 0) continue;
      events.push({ ...event, events: readiness });
      if (event.events & EPOLL.oneshot) registration.event = { ...event, events: event.events & PRIVATE_BITS };
      else if (!(event.events & EPOLL.et)) this.queue(registration);
    }
    this.#ready.unshift(...line);
    return events;
  }

  /** May be ready. Returns whether that ends a wait. */
  queue(registration: Registration): boolean {
    if (!registration.isQueued) this.#ready.push(registration);
    registration.isQueued = true;
    return this.isWaitedFor;
  }

  /** What `fd` is watched for, 0 for nothing: a oneshot that has fired, and a number that is not watched. */
  interestIn(fd: number, file: OpenFile): number {
    return this.#find(fd, file)?.event.events ?? 0;
  }

  override release(): void {
    for (const registration of this.#registrations) this.#drop(registration);
  }

  #find(fd: number, file: OpenFile): Registration | undefined {
    for (const registration of this.#registrations) {
      if (registration.fd === fd && registration.file === file) return registration;
    }
    return undefined;
  }

  #drop(registration: Registration): void {
    this.#registrations.delete(registration);
    registration.file.watches.delete(registration);
    this.#ready = this.#ready.filter((other) => other !== registration);
  }
}

/** Errors and hang-ups are reported, asked for or not. */
function always(event: EpollEvent): EpollEvent {
  return { ...event, events: event.events | EPOLL.err | EPOLL.hup };
}
