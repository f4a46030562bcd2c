-- A small cloud: a KVM zone in use and a disabled VMware zone.

INSERT INTO data_center (id, uuid, name, allocation_state, removed) VALUES
  (1, 'zone-north', 'north', 'Enabled', NULL),
  (2, 'zone-south', 'south', 'Disabled', NULL),
  (3, 'zone-old', 'old', 'Enabled', '2020-01-01 00:00:00');

INSERT INTO host (id, uuid, name, status, type, private_ip_address, data_center_id, version,
                  disconnected, created, removed, resource_state, hypervisor_type) VALUES
  (1, 'host-kvm1', 'kvm1', 'Up', 'Routing', '192.0.2.11', 1, '4.22', NULL, '2026-01-01 00:00:00', NULL, 'Enabled', 'KVM'),
  (2, 'host-kvm2', 'kvm2', 'Up', 'Routing', '192.0.2.12', 1, '4.22', NULL, '2026-01-01 00:00:00', NULL, 'Maintenance', 'KVM'),
  (3, 'host-esx1', 'esx1', 'Down', 'Routing', '192.0.2.13', 2, '4.22', NULL, '2026-01-01 00:00:00', NULL, 'Enabled', 'VMware'),
  (4, 'host-gone', 'gone', 'Up', 'Routing', '192.0.2.14', 1, '4.22', NULL, '2026-01-01 00:00:00', '2026-01-02 00:00:00', 'Enabled', 'KVM'),
  -- the agents of system VMs
  (10, 'agent-s1-old', 's-1-VM', 'Removed', 'SecondaryStorageVM', '10.0.0.5', 1, '4.22.0.0', NULL, '2026-01-01 00:00:00', '2026-01-03 00:00:00', 'Enabled', NULL),
  (11, 'agent-s1', 's-1-VM', 'Up', 'SecondaryStorageVM', '10.0.0.5', 1, '4.22.0.0', '2026-02-01 03:04:05', '2026-01-03 00:00:00', NULL, 'Enabled', NULL),
  (12, 'agent-v3-south', 'v-3-VM', 'Disconnected', 'ConsoleProxy', '10.9.0.5', 2, '4.22.0.0', '2026-02-02 00:00:00', '2026-01-03 00:00:00', NULL, 'Enabled', NULL),
  (13, 'agent-s4', 's-4-VM', 'Up', 'SecondaryStorageVM', '10.0.0.8', 1, '4.11.1.0', NULL, '2026-01-03 00:00:00', NULL, 'Enabled', NULL),
  -- the same name in another zone is another machine
  (14, 'agent-v2-south', 'v-2-VM', 'Up', 'ConsoleProxy', '10.9.0.9', 2, '4.22.0.0', NULL, '2026-01-03 00:00:00', NULL, 'Enabled', NULL);

INSERT INTO vm_template (id, uuid, name, unique_name, type, hypervisor_type, state) VALUES
  (1, 'template-kvm', 'SystemVM Template (KVM)', 'systemvm-kvm-4.22', 'SYSTEM', 'KVM', 'Active'),
  (2, 'template-esx', 'SystemVM Template (VMware)', 'systemvm-vmware-4.22', 'SYSTEM', 'VMware', 'Active');

INSERT INTO vm_instance (id, uuid, name, instance_name, type, vm_type, state, vm_template_id,
                         private_ip_address, data_center_id, host_id, created, removed,
                         hypervisor_type) VALUES
  (1, 'vm-s1', 's-1-VM', 's-1-VM', 'SecondaryStorageVm', 'SecondaryStorageVm', 'Running', 1, '10.0.0.5', 1, 1, '2026-01-02 10:20:30', NULL, 'KVM'),
  (2, 'vm-v2', 'v-2-VM', 'v-2-VM', 'ConsoleProxy', 'ConsoleProxy', 'Running', 1, '10.0.0.6', 1, 2, '2026-01-02 10:20:31', NULL, 'KVM'),
  (3, 'vm-v3', 'v-3-VM', 'v-3-VM', 'ConsoleProxy', 'ConsoleProxy', 'Running', 2, '10.9.0.5', 2, 3, '2026-01-02 10:20:32', NULL, 'VMware'),
  (4, 'vm-s4', 's-4-VM', 's-4-VM', 'SecondaryStorageVm', 'SecondaryStorageVm', 'Stopped', 1, '10.0.0.8', 1, NULL, '2026-01-02 10:20:33', NULL, 'KVM'),
  (5, 'vm-s5', 's-5-VM', 's-5-VM', 'SecondaryStorageVm', 'SecondaryStorageVm', 'Starting', 1, NULL, 1, 1, '2026-01-02 10:20:34', NULL, 'KVM'),
  (6, 'vm-r6', 'r-6-VM', 'r-6-VM', 'DomainRouter', 'DomainRouter', 'Running', 1, NULL, 1, 1, '2026-01-02 10:20:35', NULL, 'KVM'),
  (7, 'vm-s7', 's-7-VM', 's-7-VM', 'SecondaryStorageVm', 'SecondaryStorageVm', 'Expunging', 1, NULL, 1, NULL, '2026-01-01 10:20:36', '2026-01-02 00:00:00', 'KVM');

INSERT INTO secondary_storage_vm (id, public_ip_address) VALUES (1, '198.51.100.1'), (4, '198.51.100.4'), (5, NULL);
INSERT INTO console_proxy (id, public_ip_address) VALUES (2, '198.51.100.2'), (3, '198.51.100.3');

INSERT INTO nics (instance_id, device_id, ip4_address, network_id, reserver_name, state, removed) VALUES
  (1, 0, '169.254.1.9', 200, 'ControlNetworkGuru', 'Allocated', '2026-01-02 00:00:00'),
  (1, 0, '169.254.1.10', 200, 'ControlNetworkGuru', 'Reserved', NULL),
  (1, 1, '10.0.0.5', 201, 'PodBasedNetworkGuru', 'Reserved', NULL),
  (1, 2, '198.51.100.1', 202, 'PublicNetworkGuru', 'Reserved', NULL),
  (2, 0, '169.254.1.11', 200, 'ControlNetworkGuru', 'Reserved', NULL),
  (3, 0, NULL, 200, 'ControlNetworkGuru', 'Reserved', NULL),
  (3, 1, '10.9.0.5', 203, 'PodBasedNetworkGuru', 'Reserved', NULL);

INSERT INTO async_job (id, uuid, job_cmd, instance_type, instance_id, job_status, removed, job_dispatcher) VALUES
  (1, 'job-done', 'RebootSystemVmCmd', 'SystemVm', 1, 1, '2026-02-01 00:00:00', 'ApiAsyncJobDispatcher'),
  (2, 'job-pending', 'RebootSystemVmCmd', 'SystemVm', 2, 0, NULL, 'ApiAsyncJobDispatcher'),
  (3, 'job-of-a-scan', 'VmWorkStart', NULL, NULL, 0, NULL, 'VmWorkJobDispatcher'),
  (4, 'job-of-a-volume', 'AttachVolumeCmd', 'Volume', 1, 0, NULL, 'ApiAsyncJobDispatcher');
INSERT INTO vm_work_job (id, step, vm_type, vm_instance_id) VALUES (3, 'Starting', 'SecondaryStorageVm', 5);
